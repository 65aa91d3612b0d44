package fakekubelet

import (
	"slices"
	"sync"
	"time"
)

// stampLayout is that of the timestamps that kubelets write: of fixed width.
const stampLayout = "2006-01-02T15:04:05.000000000Z07:00"

// Log is what a container has written, over all its starts.
type Log struct {
	name string

	mu      sync.Mutex
	runs    []*run // the last is the container as it is
	streams []*Stream
	refusal *refusal
	refused int           // requests so far
	next    chan struct{} // closed at the next change
}

// run is what was written from one start of a container to the next.
type run struct {
	blocks []block
	ended  bool
}

// block is a number of lines, one a microsecond.
type block struct {
	from  time.Time
	lines int
	line  func(int) string
}

type refusal struct {
	code    int
	message string
}

func newLog(name string) *Log {
	return &Log{name: name, runs: []*run{{}}, next: make(chan struct{})}
}

// Print has the container write lines now.
func (l *Log) Print(lines ...string) { l.PrintAt(time.Now(), lines...) }

// PrintAt has the container have written lines at that time.
func (l *Log) PrintAt(at time.Time, lines ...string) {
	l.Generate(at, len(lines), func(i int) string { return lines[i] })
}

// Generate has the container have written any number of lines, which are made when they are
// read.
func (l *Log) Generate(at time.Time, lines int, line func(int) string) {
	l.change(func() {
		now := l.runs[len(l.runs)-1]
		now.blocks = append(now.blocks, block{from: at, lines: lines, line: line})
	})
}

// End ends the log: the container has ended.
func (l *Log) End() { l.change(func() { l.runs[len(l.runs)-1].ended = true }) }

// Restart ends the log and begins another one, as when a container is started again.
func (l *Log) Restart() {
	l.change(func() {
		l.runs[len(l.runs)-1].ended = true
		l.runs = append(l.runs, &run{})
	})
}

// Refuse answers all requests from now on with an error; with code 0 it does not.
func (l *Log) Refuse(code int, message string) {
	l.change(func() {
		l.refusal = nil
		if code != 0 {
			l.refusal = &refusal{code, message}
		}
	})
}

// Refused returns how many requests were answered as Refuse says.
func (l *Log) Refused() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.refused
}

// Break breaks every stream off.
func (l *Log) Break() {
	for _, s := range l.open() {
		s.cut()
	}
}

// Streams returns all that there were, the first first.
func (l *Log) Streams() []*Stream {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.streams)
}

// Open returns how many streams are open.
func (l *Log) Open() int { return len(l.open()) }

func (l *Log) open() []*Stream {
	return slices.DeleteFunc(l.Streams(), func(s *Stream) bool {
		select {
		case <-s.Ended():
			return true
		default:
			return false
		}
	})
}

func (l *Log) change(how func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	how()
	close(l.next)
	l.next = make(chan struct{})
}

// chosen returns the run that is asked for; nil when there is none.
func (l *Log) chosen(previous bool) (*run, *refusal) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := len(l.runs) - 1
	if previous {
		i--
	}
	if l.refusal != nil {
		l.refused++
		return nil, l.refusal
	}
	if i < 0 {
		return nil, nil
	}
	return l.runs[i], nil
}

// now returns what a run has, and what is closed when it has more.
func (l *Log) now(r *run) (blocks []block, ended bool, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return r.blocks[:len(r.blocks):len(r.blocks)], r.ended, l.next
}
