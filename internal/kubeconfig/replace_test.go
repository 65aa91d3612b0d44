package kubeconfig

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/tools/clientcmd"
)

const newToken = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln"

// checkReplaced checks that a document means what it did but for the token of its user.
func checkReplaced(t *testing.T, data, replaced []byte, token string) {
	t.Helper()
	want, user, err := loadUser(data)
	if err != nil {
		t.Fatal(err)
	}
	user.Token = token
	got, err := clientcmd.Load(replaced)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("other things changed: %s", diff)
	}
}

func TestReplaceTokenKeepsEveryByte(t *testing.T) {
	documents := map[string][]byte{
		"flow":                         config(goodCluster, goodUser),
		"flow, in quotes":              config(goodCluster, `token: "s3cret-t0ken"`),
		"block":                        []byte(strings.Replace(string(config(goodCluster, "")), "  user: {}", "  user:\n    token: s3cret-t0ken # of May\n", 1)),
		"comments":                     append([]byte("# made by hand\n"), config(goodCluster, goodUser)...),
		"token in a comment before it": append([]byte("# token: s3cret-t0ken\n"), config(goodCluster, goodUser)...),
		"another user, first": bytes.Replace(config(goodCluster, goodUser), []byte("users:\n"),
			[]byte("users:\n- name: another\n  user: {token: s3cret-t0ken}\n"), 1),
		"another user, last": append(config(goodCluster, goodUser), "- name: another\n  user: {token: s3cret-t0ken}\n"...),
		"as JSON": []byte(`{"kind":"Config","apiVersion":"v1","users":[{"name":"u","user":{"token":"s3cret-t0ken"}}],
			"clusters":[{"name":"c","cluster":{"server":"https://a"}}],
			"contexts":[{"name":"x","context":{"cluster":"c","user":"u"}}],"current-context":"x"}`),
	}
	for name, data := range documents {
		t.Run(name, func(t *testing.T) {
			got, err := ReplaceToken(data, newToken)
			if err != nil {
				t.Fatal(err)
			}
			checkReplaced(t, data, got, newToken)
			if back := bytes.Replace(got, []byte(newToken), []byte("s3cret-t0ken"), 1); !bytes.Equal(back, data) {
				t.Errorf("more than the token changed:\n%s", got)
			}
		})
	}
}

func TestReplaceTokenKeepsTheMeaning(t *testing.T) {
	documents := map[string][]byte{
		"folded": config(goodCluster, `token: "s3cret-\
    t0ken"`),
		"escaped": config(goodCluster, `token: "s3cret\u002dt0ken"`),
		"shared with another user": append(config(goodCluster, "token: &it s3cret-t0ken"),
			"- name: another\n  user: {token: *it}\n"...),
		"in many other places": append(bytes.Repeat([]byte("# s3cret-t0ken\n"), maxTries), config(goodCluster, goodUser)...),
	}
	for name, data := range documents {
		t.Run(name, func(t *testing.T) {
			got, err := ReplaceToken(data, newToken)
			if err != nil {
				t.Fatal(err)
			}
			checkReplaced(t, data, got, newToken)
		})
	}
}

func TestReplaceTokenRefuses(t *testing.T) {
	cert, key := keyPair(t)
	tests := map[string]struct {
		data  []byte
		token string
		want  string
	}{
		"a document that is refused": {config(goodCluster, "token: s3cret-t0ken, username: a"), newToken, "username and password is not allowed"},
		"no token":                   {parts{"https://a", "", nil, cert, key, ""}.write(), newToken, "client certificate"},
		"a token with white space":   {config(goodCluster, goodUser), "a\nb", "token must not contain white space"},
		"an empty token":             {config(goodCluster, goodUser), "", "no credential"},
		"a token without an end":     {config(goodCluster, goodUser), strings.Repeat("a", MaxSize), "bytes long"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := ReplaceToken(test.data, test.token)
			if err == nil || got != nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %q, %v, want %q", got, err, test.want)
			}
		})
	}
}

func FuzzReplaceToken(f *testing.F) {
	for _, data := range shapes(f) {
		f.Add(data, newToken)
	}
	f.Add(config(goodCluster, goodUser), "a: b #")
	f.Add(config(goodCluster, `token: "a b", client-key-data: ""`), `"`)
	f.Fuzz(func(t *testing.T, data []byte, token string) {
		replaced, err := ReplaceToken(data, token)
		if err != nil {
			if replaced != nil {
				t.Error("a document beside an error")
			}
			return
		}
		before, err := Parse(data)
		if err != nil {
			t.Fatal("replaces in what Parse refuses")
		}
		after, err := Parse(replaced)
		if before.Token = token; err != nil || !cmp.Equal(before, after) || !utf8.ValidString(token) {
			t.Errorf("%v\n%s", err, cmp.Diff(before, after))
		}
		checkReplaced(t, data, replaced, token)
	})
}
