package logserver

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// running returns a world with one Pod that runs.
func running() (*fake, *fakePod) {
	f := newFake()
	p := f.addPod("a")
	f.start(p)
	f.publish(p, corev1.PodRunning)
	return f, p
}

// finish ends the container, the Pod and the run.
func (f *fake) finish(p *fakePod) {
	f.exit(p)
	f.publish(p, corev1.PodSucceeded)
	f.end()
}

func (f *fake) end() { f.do(func() { f.run.Ended = true }) }

func want(t *testing.T, c *client, text string) {
	t.Helper()
	if got := c.body(); got != text {
		t.Errorf("got %q, want %q", got, text)
	}
}

func TestFollowing(t *testing.T) {
	for name, test := range map[string]struct {
		parameters string
		play       func(t *testing.T, f *fake, step func())
		want       string
	}{
		"from before there is a Job to the end": {play: func(_ *testing.T, f *fake, step func()) {
			f.do(func() { f.run.JobUID = "" })
			step()
			f.do(func() { f.run.JobUID = jobUID })
			step()
			p := f.addPod("a")
			f.publish(p, corev1.PodPending)
			step()
			f.start(p)
			f.print(p, "one")
			f.publish(p, corev1.PodRunning)
			step()
			f.print(p, "two")
			step()
			f.finish(p)
		}, want: "one\ntwo\n"},
		"a run that never has a Job": {play: func(_ *testing.T, f *fake, step func()) {
			f.do(func() { f.run.JobUID = "" })
			step()
			f.end()
		}, want: ""},
		"a container that is started again": {play: func(_ *testing.T, f *fake, step func()) {
			p := play(f, step, "one")
			f.exit(p)
			step()
			f.publish(p, corev1.PodRunning)
			step()
			f.start(p)
			f.print(p, "two")
			f.publish(p, corev1.PodRunning)
			step()
			f.finish(p)
		}, want: "one\ntwo\n"},
		"a container that was started again before anybody looked": {play: func(_ *testing.T, f *fake, step func()) {
			p := play(f, step, "one")
			f.do(func() { f.broken++ })
			f.print(p, "the last words")
			f.exit(p)
			f.start(p)
			later(time.Millisecond) // no container starts as fast as another ends
			f.print(p, "two")
			f.publish(p, corev1.PodRunning)
			step()
			f.finish(p)
		}, want: "one\nthe last words\ntwo\n"},
		"a container that was started again before its start was seen": {play: func(_ *testing.T, f *fake, step func()) {
			p := f.addPod("a")
			f.publish(p, corev1.PodPending)
			step()
			f.start(p)
			f.print(p, "one")
			f.exit(p)
			later(time.Millisecond)
			f.start(p)
			f.print(p, "two")
			f.publish(p, corev1.PodRunning)
			step()
			f.finish(p)
		}, want: "one\ntwo\n"},
		"a container that was started again before the request": {play: func(_ *testing.T, f *fake, step func()) {
			p := play(f, func() {}, "one")
			f.exit(p)
			later(time.Millisecond)
			f.start(p)
			f.print(p, "two")
			f.publish(p, corev1.PodRunning)
			step()
			f.finish(p)
		}, want: "two\n"},
		"a Pod that comes after": {play: func(_ *testing.T, f *fake, step func()) {
			p := play(f, step, "one")
			f.exit(p)
			f.publish(p, corev1.PodFailed)
			step()
			play(f, step, "two")
			step()
			f.finish(f.pods[1])
		}, want: "one\ntwo\n"},
		"the newest of two": {play: func(_ *testing.T, f *fake, step func()) {
			f.do(func() { f.run.JobUID = "" })
			play(f, step, "old")
			play(f, step, "new")
			f.do(func() { f.run.JobUID = jobUID })
			step()
			f.finish(f.pods[1])
		}, want: "new\n"},
		"one that is named, to its end": {parameters: "pod=p0", play: func(_ *testing.T, f *fake, step func()) {
			f.do(func() { f.run.JobUID = "" })
			p := play(f, step, "old")
			play(f, step, "new")
			f.do(func() { f.run.JobUID = jobUID })
			step()
			f.exit(p)
			f.publish(p, corev1.PodSucceeded)
		}, want: "old\n"},
		"all": {parameters: "allPods=true", play: func(_ *testing.T, f *fake, step func()) {
			p := play(f, step, "one")
			play(f, step, "two")
			step()
			f.print(p, "three")
			step()
			f.exit(p)
			f.publish(p, corev1.PodSucceeded)
			f.finish(f.pods[1])
		}, want: "[p0] one\n[p1] two\n[p0] three\n"},
		"a Pod that is deleted": {play: func(_ *testing.T, f *fake, step func()) {
			p := play(f, step, "one")
			f.exit(p)
			f.do(func() { p.deleted = true })
			step()
			f.end()
		}, want: "one\n"},
		"a PooledJob that is deleted": {play: func(_ *testing.T, f *fake, step func()) {
			p := play(f, step, "one")
			f.do(func() { f.gone = true })
			step()
			f.print(p, "two")
			f.exit(p)
		}, want: "one\ntwo\n"},
		"a status that comes late": {play: func(_ *testing.T, f *fake, step func()) {
			p := play(f, step, "one")
			f.exit(p)
			later(time.Minute)
			f.finish(p)
		}, want: "one\n"},
		"an end that is known before the last lines": {play: func(_ *testing.T, f *fake, step func()) {
			p := play(f, step, "one")
			f.end()
			step()
			f.print(p, "two")
			f.exit(p)
		}, want: "one\ntwo\n"},
		"a stream that breaks after the end is known": {play: func(_ *testing.T, f *fake, step func()) {
			p := play(f, step, "one")
			f.end()
			step()
			for range 2 {
				f.do(func() { f.broken++ })
				step()
				step()
			}
			f.print(p, "two")
			f.exit(p)
		}, want: "one\ntwo\n"},
		"a log that the node has removed": {play: func(t *testing.T, f *fake, step func()) {
			p := play(f, step, "one")
			f.do(func() { p.instances[0].lost = true })
			f.exit(p)
			f.publish(p, corev1.PodRunning)
			later(2 * time.Minute)
			if n := f.requests(); n > 25 {
				t.Errorf("asked %d times", n)
			}
			f.finish(p)
		}, want: "one\n(the node of Pod p0 does not give the log of container main: failed to try resolving symlinks in path \"/var/log/pods/a\": lstat: no such file or directory)"},
		"a kubelet that knows its Pods a little later": {play: func(_ *testing.T, f *fake, step func()) {
			p := play(f, step, "one")
			f.do(func() { f.unknown, f.broken = true, f.broken+1 })
			f.print(p, "two")
			later(20 * time.Second)
			f.do(func() { f.unknown = false })
			later(20 * time.Second)
			f.finish(p)
		}, want: "one\ntwo\n"},
		"a container that is started again while the target is away": {play: func(_ *testing.T, f *fake, step func()) {
			p := play(f, step, "one")
			f.do(func() { f.down, f.broken = errors.New("no route"), f.broken+1 })
			f.print(p, "the last words")
			f.exit(p)
			later(time.Second)
			f.start(p)
			f.print(p, "two")
			later(20 * time.Second)
			f.do(func() { f.down = nil }) // and the status still tells of the container before
			later(20 * time.Second)
			f.publish(p, corev1.PodRunning)
			step()
			f.finish(p)
		}, want: "one\nthe last words\ntwo\n"},
		"two short troubles, hours apart": {play: func(_ *testing.T, f *fake, step func()) {
			p := play(f, step, "one")
			for range 3 {
				f.do(func() { f.hubDown = errors.New("hub is away") })
				later(5 * time.Second)
				f.do(func() { f.hubDown = nil })
				later(5 * time.Hour)
			}
			f.print(p, "two")
			f.finish(p)
		}, want: "one\ntwo\n"},
		"a hub that is away for a moment while the run waits": {play: func(_ *testing.T, f *fake, step func()) {
			f.do(func() { f.run.JobUID = "" })
			step()
			f.do(func() { f.hubDown, f.down, f.run.JobUID = errors.New("hub is away"), errors.New("no route"), jobUID })
			later(20 * time.Second)
			f.do(func() { f.hubDown = nil })
			later(20 * time.Second)
			f.do(func() { f.down = nil })
			f.finish(play(f, step, "one"))
		}, want: "one\n"},
		"a Pod that is deleted before it was read to its end": {play: func(_ *testing.T, f *fake, step func()) {
			p := play(f, step, "one")
			f.do(func() { f.down, f.broken = errors.New("no route"), f.broken+1 })
			f.print(p, "two")
			later(10 * time.Second)
			f.do(func() { f.down, p.deleted = nil, true })
			later(10 * time.Second)
			f.end()
		}, want: "one\n(Pod p0 was deleted before its log was read to the end)"},
		"all, of which one has no log any more": {parameters: "allPods=true", play: func(_ *testing.T, f *fake, step func()) {
			f.do(func() { f.run.JobUID = "" })
			p := play(f, func() {}, "evicted")
			f.do(func() { p.instances[0].lost = true })
			f.exit(p)
			f.publish(p, corev1.PodFailed)
			q := play(f, func() {}, "one")
			f.do(func() { f.run.JobUID = jobUID })
			step()
			later(3 * time.Minute)
			f.print(q, "two")
			f.finish(q)
		}, want: "[p1] one\n[p1] two\n"},
		"all, although others wait for a node": {parameters: "allPods=true", play: func(_ *testing.T, f *fake, step func()) {
			f.do(func() { f.run.JobUID = "" })
			for i := range podsAtOnce {
				f.publish(f.addPod(fmt.Sprint("pending", i)), corev1.PodPending)
			}
			f.do(func() { f.run.JobUID = jobUID })
			p := play(f, step, "one")
			later(time.Minute)
			f.finish(p)
		}, want: fmt.Sprintf("[p%d] one\n", podsAtOnce)},
		"who goes on, over a Pod that has ended since": {parameters: "sinceTime=2000-01-01T00:00:01Z", play: func(_ *testing.T, f *fake, step func()) {
			f.do(func() { f.run.JobUID = "" })
			p := play(f, func() {}, "the last words")
			f.exit(p)
			f.publish(p, corev1.PodFailed)
			q := play(f, func() {}, "one")
			f.do(func() { f.run.JobUID = jobUID })
			step()
			f.finish(q)
		}, want: "the last words\none\n"},
		"a right that is missing": {play: func(_ *testing.T, f *fake, step func()) {
			f.do(func() {
				f.logDown = apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "p0", errors.New("no"))
			})
			play(f, step, "one")
		}, want: `(the identity of ClusterConnection "target" lacks a right on its cluster, see config/target/role.yaml: pods "p0" is forbidden: no)`},
		"the last lines, of what is still to come": {parameters: "tailLines=1", play: func(_ *testing.T, f *fake, step func()) {
			f.addPod("p0")
			step()
			p := f.pods[0]
			f.start(p)
			f.print(p, "one", "two")
			f.publish(p, corev1.PodRunning)
			step()
			f.finish(p)
		}, want: "one\ntwo\n"},
		"a run that ends before its Pod starts": {play: func(_ *testing.T, f *fake, step func()) {
			p := f.addPod("a")
			f.publish(p, corev1.PodPending)
			step()
			f.end()
		}, want: ""},
		"only some bytes": {parameters: "limitBytes=6", play: func(_ *testing.T, f *fake, step func()) {
			play(f, step, "one", "two")
		}, want: "one\ntw"},
		"with timestamps": {parameters: "timestamps=true", play: func(_ *testing.T, f *fake, step func()) {
			p := play(f, step, "one")
			f.finish(p)
		}, want: "2000-01-01T00:00:01.000000000Z one\n"},
		"another Job": {play: func(_ *testing.T, f *fake, step func()) {
			play(f, step, "one")
			f.do(func() { f.run.JobUID, f.run.Connection = "another", "elsewhere" })
			step()
			f.end()
		}, want: "one\n"},
		"another PooledJob of that name": {play: func(_ *testing.T, f *fake, step func()) {
			f.do(func() { f.run.JobUID = "" })
			step()
			f.do(func() { f.run.UID = "another" })
		}, want: `(PooledJob "x" was deleted; another one has its name)`},
		"a target that stays away": {play: func(_ *testing.T, f *fake, step func()) {
			play(f, step, "one")
			f.do(func() { f.down, f.broken = errors.New("no route"), f.broken+1 })
			later(2 * time.Minute)
			f.do(func() {})
		}, want: `one
(the cluster of ClusterConnection "target" cannot be reached: no route)`},
		"a target that comes back": {play: func(_ *testing.T, f *fake, step func()) {
			p := play(f, step, "one")
			f.do(func() { f.down, f.broken = errors.New("no route"), f.broken+1 })
			later(30 * time.Second)
			f.print(p, "two")
			f.do(func() { f.down = nil })
			later(30 * time.Second)
			f.finish(p)
		}, want: "one\ntwo\n"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake()
				var c *client
				step := func() {
					later(time.Second)
					if c == nil && f.run.JobUID != "" && len(f.pods) > 0 || c == nil && f.run.JobUID == "" && len(f.pods) == 0 {
						c = f.get("follow=true&" + test.parameters)
					}
					synctest.Wait()
				}
				test.play(t, f, step)
				if c == nil {
					c = f.get("follow=true&" + test.parameters)
				}
				want(t, c, test.want)
				if f.opened != 0 {
					t.Errorf("%d streams are open", f.opened)
				}
			})
		})
	}
}

// play adds a Pod that runs and prints.
func play(f *fake, step func(), lines ...string) *fakePod {
	p := f.addPod(fmt.Sprintf("p%d", len(f.pods)))
	f.start(p)
	later(time.Second)
	f.print(p, lines...)
	f.publish(p, corev1.PodRunning)
	step()
	return p
}

func TestAFollowedLogIsWholeWhateverHappens(t *testing.T) {
	for seed := range uint64(1500) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			f, p := running()
			c := f.get("follow=true")
			var all []string
			for i := range 5 + r.IntN(60) {
				later(time.Duration(r.IntN(4)) * 300 * time.Millisecond)
				last := p.instances[len(p.instances)-1]
				switch n := r.IntN(12); {
				case n < 6 && !last.ended:
					for j := range 1 + r.IntN(4) {
						line := strings.Repeat("x", r.IntN(30)) + fmt.Sprintf("-%d-%d", i, j)
						all = append(all, line)
						f.print(p, line)
					}
				case n == 6:
					f.do(func() { f.broken++ })
				case n == 7 && !last.ended:
					f.exit(p)
				case n == 8 && last.ended && isPublished(p):
					later(time.Millisecond)
					f.start(p)
				case n == 9 && last.ended:
					f.publish(p, corev1.PodFailed)
					synctest.Wait()
					p = f.addPod(fmt.Sprint("p", i))
					f.start(p)
					f.publish(p, corev1.PodRunning)
				case n == 10:
					f.publish(p, corev1.PodRunning)
					synctest.Wait()
				}
			}
			last := p.instances[len(p.instances)-1]
			if !last.ended {
				f.exit(p)
			}
			f.publish(p, corev1.PodSucceeded)
			f.end()
			lines := ""
			if len(all) > 0 {
				lines = strings.Join(all, "\n") + "\n"
			}
			if got := c.body(); got != lines {
				t.Fatalf("seed %d: got %q, want %q", seed, got, lines)
			}
			if f.opened != 0 {
				t.Errorf("seed %d: %d streams are open", seed, f.opened)
			}
		})
		if t.Failed() {
			return
		}
	}
}

// isPublished reports whether the Pod's status says that its container has ended.
func isPublished(p *fakePod) bool {
	return slices.ContainsFunc(p.object.Status.ContainerStatuses, func(s corev1.ContainerStatus) bool {
		return s.State.Terminated != nil && int(s.RestartCount) == len(p.instances)-1
	})
}

func TestAClientThatGoesAwayEndsItsStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, p := running()
		f.print(p, "one")
		c := f.get("follow=true")
		synctest.Wait()
		if f.opened != 1 {
			t.Fatalf("%d streams are open, want 1", f.opened)
		}
		c.cancel()
		synctest.Wait()
		if f.opened != 0 {
			t.Errorf("%d streams are open", f.opened)
		}
		<-c.done
	})
}

func TestALogIsNotAskedForWithoutAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, p := running()
		c := f.get("follow=true")
		synctest.Wait()
		f.do(func() { f.down, f.broken = errors.New("no route"), f.broken+1 })
		later(20 * time.Second)
		if n := f.requests(); n > 25 {
			t.Errorf("asked %d times in 20 s", n)
		}
		f.do(func() { f.down = nil })
		later(2 * time.Second)
		before := f.requests()
		f.exit(p) // and the status says for long that it runs
		later(time.Minute)
		if n := f.requests() - before; n > 25 {
			t.Errorf("asked %d times in a minute for a log that had ended", n)
		}
		f.finish(p)
		<-c.done
	})
}

func TestNewestPodFirstAndNotOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		for i := range 30 {
			p := play(f, func() {}, fmt.Sprint(i))
			f.exit(p)
			f.publish(p, corev1.PodSucceeded)
		}
		f.end()
		want(t, f.get("follow=true"), "29\n")
		want(t, f.get("follow=true&pod=p7"), "7\n")
		got := strings.Split(strings.TrimSpace(f.get("follow=true&allPods=true").body()), "\n")
		slices.Sort(got)
		if len(slices.Compact(got)) != 30 {
			t.Errorf("of 30 Pods came %q", got)
		}
	})
}
