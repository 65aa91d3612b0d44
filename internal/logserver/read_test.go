package logserver

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func TestReading(t *testing.T) {
	none := func(*fake) {}
	forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "", errors.New("no"))
	for name, test := range map[string]struct {
		parameters string
		change     func(f *fake)
		want       string
		code       int32
	}{
		"the newest Pod":                  {change: none, want: "c\nd\n"},
		"the Pod that the result is from": {change: func(f *fake) { f.run.Ended, f.run.Speaker = true, "p0" }, want: "a\nb\n"},
		"the same, followed":              {parameters: "follow=true", change: func(f *fake) { f.run.Ended, f.run.Speaker = true, "p0" }, want: "a\nb\n"},
		"the newest, for the Pod that the result is from is gone": {change: func(f *fake) { f.run.Ended, f.run.Speaker = true, "p7" }, want: "c\nd\n"},
		"no Pods any more, after a cancel": {change: func(f *fake) { f.pods, f.run.Ended, f.run.Stopped = nil, true, true },
			want: `its Pods were deleted when the run was stopped, and their log with them`, code: 404},
		"one that is named":              {parameters: "pod=p0", change: none, want: "a\nb\n"},
		"all":                            {parameters: "allPods=true", change: none, want: "[p0] a\n[p0] b\n[p1] c\n[p1] d\n"},
		"some bytes":                     {parameters: "limitBytes=3", change: none, want: "c\nd"},
		"some bytes of all":              {parameters: "limitBytes=9&allPods=true", change: none, want: "[p0] a\n[p"},
		"a container that is named":      {parameters: "container=main", change: none, want: "c\nd\n"},
		"an unknown container":           {parameters: "container=side", change: none, want: "Pod p1 has no container \"side\"; it has main", code: 400},
		"an unknown Pod":                 {parameters: "pod=p7", change: none, want: `has no Pod p7`, code: 404},
		"an unknown parameter":           {parameters: "folow=true", change: none, want: `no parameter "folow"; there are`, code: 400},
		"a parameter twice":              {parameters: "pod=a&pod=b", change: none, want: "given 2 times", code: 400},
		"a number that is none":          {parameters: "tailLines=x", change: none, want: `tailLines is "x"; give a number, at least 0`, code: 400},
		"a number that is too small":     {parameters: "limitBytes=0", change: none, want: `at least 1`, code: 400},
		"a truth that is none":           {parameters: "follow=ja", change: none, want: `follow is "ja"; give true or false`, code: 400},
		"a time that is none":            {parameters: "sinceTime=now", change: none, want: `RFC 3339`, code: 400},
		"a Pod and all":                  {parameters: "pod=a&allPods=1", change: none, want: `exclude each other`, code: 400},
		"two beginnings":                 {parameters: "sinceTime=2006-01-02T15:04:05Z&sinceSeconds=1", change: none, want: `exclude each other`, code: 400},
		"a previous one, followed":       {parameters: "previous=1&follow=1", change: none, want: `cannot be followed`, code: 400},
		"a previous one that is none":    {parameters: "previous=1", change: none, want: `waiting to start`, code: 400},
		"a run without a Job":            {change: func(f *fake) { f.run.JobUID, f.run.State = "", "It is Pending." }, want: `has not started yet; follow waits for it. It is Pending.`, code: 400},
		"a run that ended without a Job": {change: func(f *fake) { f.run.JobUID, f.run.Ended = "", true }, want: `it never had a Pod`, code: 404},
		"no Pods yet":                    {change: func(f *fake) { f.pods = nil }, want: `has not started yet`, code: 400},
		"no Pods any more":               {change: func(f *fake) { f.pods, f.run.Ended = nil, true }, want: `gone from the cluster`, code: 404},
		"Pods that the Job left":         {change: func(f *fake) { f.run.JobUID, f.run.Ended = "another", true }, want: `has left its Pods`, code: 404},
		"no Pods any more, followed":     {parameters: "follow=true", change: func(f *fake) { f.pods, f.run.Ended = nil, true }, want: `gone from the cluster`, code: 404},
		"Pods of another Job":            {change: func(f *fake) { f.run.JobUID = "another" }, want: `has not started yet`, code: 400},
		"a Pod that waits": {change: func(f *fake) {
			f.pods[1].instances = nil
			f.mu.Unlock()
			f.publish(f.pods[1], corev1.PodPending)
			f.mu.Lock()
		}, want: "container main of Pod p1 has not started yet (ContainerCreating)", code: 400},
		"a target that is away":          {change: func(f *fake) { f.down = errors.New("no route") }, want: `ClusterConnection "target" cannot be reached: no route`, code: 503},
		"a right that is missing":        {change: func(f *fake) { f.down = forbidden }, want: `lacks a right on its cluster, see config/target/role.yaml`, code: 503},
		"an unknown container, followed": {parameters: "follow=true&container=side", change: none, want: `has no container "side"`, code: 400},
		"an unknown Pod, followed":       {parameters: "follow=true&pod=p7", change: none, want: `has no Pod p7`, code: 404},
		"a target that is away, followed": {parameters: "follow=true", change: func(f *fake) { f.down = errors.New("no route") },
			want: `ClusterConnection "target" cannot be reached: no route`, code: 503},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake()
				for _, p := range []*fakePod{play(f, func() {}, "a", "b"), play(f, func() {}, "c", "d")} {
					f.exit(p)
					f.publish(p, corev1.PodSucceeded)
				}
				f.mu.Lock()
				test.change(f)
				f.mu.Unlock()
				c := f.get(test.parameters)
				<-c.done
				if test.code == 0 {
					want(t, c, test.want)
					return
				}
				var status *apierrors.StatusError
				if !errors.As(c.err, &status) || status.ErrStatus.Code != test.code || !strings.Contains(status.ErrStatus.Message, test.want) {
					t.Errorf("got %v, want %d with %q", c.err, test.code, test.want)
				}
				if c.out != nil && c.out.begun {
					t.Error("the header was sent, and so the error cannot be told")
				}
			})
		})
	}
}

func TestContainers(t *testing.T) {
	pod := &corev1.Pod{Spec: corev1.PodSpec{
		Containers: []corev1.Container{{Name: "one"}, {Name: "two"}}, InitContainers: []corev1.Container{{Name: "init"}},
		EphemeralContainers: []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "debug"}}},
	}}
	for asked, got := range map[string]string{"": "one", "two": "two", "init": "init", "debug": "debug"} {
		if name, err := containerOf(pod, asked); name != got || err != nil {
			t.Errorf("%q: got %q, %v", asked, name, err)
		}
	}
	pod.Annotations = map[string]string{defaultContainer: "two"}
	if name, err := containerOf(pod, ""); name != "two" || err != nil {
		t.Errorf("got %q, %v", name, err)
	}
	pod.Annotations[defaultContainer] = "gone"
	if name, err := containerOf(pod, ""); name != "one" || err != nil {
		t.Errorf("got %q, %v", name, err)
	}
}

func TestLimits(t *testing.T) {
	l := newLimits(Limits{PerUser: 2, PerConnection: 3})
	var leave []func()
	for range 2 {
		one, err := l.enterUser("a", 1)
		if err != nil {
			t.Fatal(err)
		}
		leave = append(leave, one)
	}
	_, err := l.enterUser("a", 1)
	if !apierrors.IsTooManyRequests(err) || !strings.Contains(fmt.Sprint(err), `user "a" follows or reads 2 logs already`) {
		t.Errorf("got %v", err)
	}
	if _, err := l.enterUser("b", 1); err != nil {
		t.Error(err)
	}
	leave[0]()
	if _, err := l.enterUser("a", 1); err != nil {
		t.Error(err)
	}
	for i := range 4 {
		if _, err := l.enterConnection("c", 1); (err != nil) != (i == 3) {
			t.Errorf("%d: got %v", i, err)
		}
	}
	if n := l.served()["c"]; n != 3 {
		t.Errorf("%d are served, want 3", n)
	}
}

func TestLongLinesOfSeveralPodsAreCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		long := strings.Repeat("x", maxLine+7)
		p := play(f, func() {}, long, "short")
		f.finish(p)
		cut := f.get("allPods=true&timestamps=true").body()
		stamp := cut[len("[p0] ") : strings.Index(cut, "Z ")+2]
		for line := range strings.Lines(cut) {
			if !strings.HasPrefix(line, "[p0] "+stamp) {
				t.Errorf("a piece of a line has no time, and so could not be told from a kubelet's words: %.60q", line)
			}
		}
		if strings.ReplaceAll(strings.ReplaceAll(cut, "[p0] "+stamp, ""), "\n", "") != long+"short" {
			t.Error("with timestamps something is lost or doubled")
		}
		got := f.get("allPods=true").body()
		if strings.ReplaceAll(strings.ReplaceAll(got, "[p0] ", ""), "\n", "") != long+"short" {
			t.Error("something is lost or doubled")
		}
		for line := range strings.Lines(got) {
			if len(line) > maxLine+len("[p0] \n") {
				t.Errorf("a line has %d bytes", len(line))
			}
		}
	})
}
