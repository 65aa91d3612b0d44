package binding

import (
	"fmt"
	"strings"
	"testing"
	"testing/quick"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/pooledjob/pooledjob/test/fixtures"
)

func object(name string) *metav1.ObjectMeta {
	return &metav1.ObjectMeta{Namespace: "team-a", Name: name, UID: "6d8f0d6a-1111-4222-8333-444455556666"}
}

// The name decides whether a second creation is refused: a change of this value
// would let a new version of the program run every unfinished job again.
func TestRemoteNameIsFixedForEver(t *testing.T) {
	got := RemoteName("hub-1", object("etl-42"), 0)
	if want := "etl-42-92041b2dddb53659"; got != want {
		t.Errorf("RemoteName = %q, want %q", got, want)
	}
}

func TestRemoteNameIsAValidNameForAnyObject(t *testing.T) {
	for _, name := range []string{
		"a", "etl.42", strings.Repeat("x", 253), strings.Repeat("a.", 60) + "b", strings.Repeat("x", 34) + ".y", "0",
	} {
		got := RemoteName("hub-1", object(name), 0)
		if errs := validation.IsDNS1123Label(got); len(errs) > 0 || len(got) > maxNameLength {
			t.Errorf("RemoteName of %q = %q (%d characters): %v", name, got, len(got), errs)
		}
	}
}

func TestRemoteNameDependsOnHubUIDAndAttempt(t *testing.T) {
	unique := func(hub, uid string, attempt int32) bool {
		base, other := object("same"), object("same")
		other.UID = types.UID(uid)
		name := RemoteName("hub-1", base, 0)
		return (RemoteName(hub, base, 0) == name) == (hub == "hub-1") &&
			(RemoteName("hub-1", other, 0) == name) == (other.UID == base.UID) &&
			(RemoteName("hub-1", base, attempt) == name) == (attempt == 0)
	}
	if err := quick.Check(unique, nil); err != nil {
		t.Error(err)
	}
}

// checkRemoteName fails the test unless the name can be that of a Job, and tells whose
// it is.
func checkRemoteName(t *testing.T, hub string, job metav1.Object, attempt int32) string {
	t.Helper()
	name := RemoteName(hub, job, attempt)
	if errs := validation.IsDNS1123Label(name); len(errs) > 0 {
		t.Fatalf("RemoteName of %q = %q: %v", job.GetName(), name, errs)
	}
	if len(name) > maxNameLength {
		t.Fatalf("RemoteName of %q = %q: %d characters", job.GetName(), name, len(name))
	}
	prefix, hash := name[:len(name)-hashLength-1], name[len(name)-hashLength:]
	if strings.Trim(hash, "0123456789abcdef") != "" || !strings.HasPrefix(strings.ReplaceAll(job.GetName(), ".", "-"), prefix) {
		t.Fatalf("RemoteName of %q = %q: not its name and a hash", job.GetName(), name)
	}
	return name
}

func TestRemoteNamesAreLabelsAndUnique(t *testing.T) {
	r := fixtures.Random(1)
	type run struct {
		hub     string
		uid     types.UID
		attempt int32
	}
	seen := map[string]run{}
	hashes := map[string]run{}
	for range 20000 {
		of := run{hub: fmt.Sprintf("%016x", r.Uint64()), uid: fixtures.ObjectUID(r), attempt: r.Int32N(3)}
		job := object(fixtures.ObjectName(r))
		if errs := validation.IsDNS1123Subdomain(job.Name); len(errs) > 0 {
			t.Fatalf("the test made a name that no object can have: %q: %v", job.Name, errs)
		}
		// Neighbours: one of hub, UID and attempt is another.
		for _, other := range []run{of, {of.hub + "0", of.uid, of.attempt}, {of.hub, of.uid + "0", of.attempt}, {of.hub, of.uid, of.attempt + 10}} {
			job.UID = other.uid
			name := checkRemoteName(t, other.hub, job, other.attempt)
			hash := name[len(name)-hashLength:]
			if before, ok := seen[name]; ok {
				t.Fatalf("%+v and %+v have the name %q", before, other, name)
			}
			if before, ok := hashes[hash]; ok {
				t.Fatalf("%+v and %+v have the hash %q", before, other, hash)
			}
			seen[name], hashes[hash] = other, other
			if again := RemoteName(other.hub, job.DeepCopy(), other.attempt); again != name {
				t.Fatalf("RemoteName is %q and then %q", name, again)
			}
		}
	}
}

// Names whose prefixes are equal are told apart by the UID: a name that was cut, and
// one whose dots became dashes.
func TestRemoteNamesThatLookAlikeDiffer(t *testing.T) {
	long := strings.Repeat("x", 60)
	seen := map[string]bool{}
	for i, name := range []string{"a.b", "a-b", long, long + "y", long + ".y"} {
		job := object(name)
		job.UID = types.UID(fmt.Sprint("uid-", i))
		remote := checkRemoteName(t, "hub-1", job, 0)
		if seen[remote] {
			t.Errorf("%q has a name that another has", name)
		}
		seen[remote] = true
	}
}

func FuzzRemoteName(f *testing.F) {
	f.Add("hub-1", "etl-42", "uid", int32(0))
	f.Add("", "0", "", int32(-1))
	f.Add("hub", strings.Repeat("a.", 126)+"b", "uid", int32(1<<30))
	f.Add("hub", strings.Repeat("x", 34)+".y", "uid", int32(7))
	f.Fuzz(func(t *testing.T, hub, name, uid string, attempt int32) {
		if len(validation.IsDNS1123Subdomain(name)) > 0 {
			t.Skip("no object has such a name")
		}
		job := object(name)
		job.UID = types.UID(uid)
		checkRemoteName(t, hub, job, attempt)
	})
}
