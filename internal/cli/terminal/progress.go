package terminal

import (
	"fmt"
	"io"
	"sync"

	"k8s.io/cli-runtime/pkg/printers"
)

// Progress prints how a run or a connection goes: one line for each change, and
// on a terminal a spinner that shows the name while nothing else is written.
type Progress struct {
	mu         sync.Mutex
	out        io.Writer
	name       string
	lastState  string
	spinning   bool // the spinner's line is on the screen
	screenUsed bool // others write to the terminal, too: no spinner any more
	stop       chan struct{}
}

// NewProgress starts a Progress whose lines begin with the name. It must be closed.
func NewProgress(out io.Writer, name string) *Progress {
	p := &Progress{out: out, name: name, stop: make(chan struct{})}
	if printers.IsTerminal(out) {
		go p.spin()
	}
	return p
}

// DisableSpinner leaves the screen to several Progresses, each with its lines.
func (p *Progress) DisableSpinner() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.screenUsed = true
}

// ShowState writes a state, unless it is the one that was shown last.
func (p *Progress) ShowState(state string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	state = Printable(state)
	if state == p.lastState {
		return
	}
	p.lastState = state
	p.writeLine(state)
}

// Notef writes a line that is no state.
func (p *Progress) Notef(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.writeLine(Printable(fmt.Sprintf(format, args...)))
}

func (p *Progress) writeLine(text string) {
	p.clearSpinner()
	fmt.Fprintf(p.out, "%s: %s\n", p.name, text)
}

// Close ends the spinner. Lines can be written afterwards, too.
func (p *Progress) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clearSpinner()
	close(p.stop)
}

// OutputTo returns a writer for other output. From its first byte on the terminal
// belongs to that output, and there is no spinner.
func (p *Progress) OutputTo(out io.Writer) io.Writer { return &outputWriter{progress: p, out: out} }

type outputWriter struct {
	progress *Progress
	out      io.Writer
	begun    bool
}

func (w *outputWriter) Write(data []byte) (int, error) {
	if !w.begun {
		w.begun = true
		w.progress.mu.Lock()
		w.progress.screenUsed = true
		w.progress.clearSpinner()
		w.progress.mu.Unlock()
	}
	return w.out.Write(data)
}
