package main

import (
	"fmt"
	"io"
	"sync"
	"time"

	"k8s.io/cli-runtime/pkg/printers"
)

// spinInterval is the time between two pictures of the spinner.
const spinInterval = 120 * time.Millisecond

// progress tells a person how a run goes: one line for each change, and on a terminal
// a spinner that shows the last one while nothing else is written.
type progress struct {
	mu       sync.Mutex
	out      io.Writer
	name     string
	last     string
	terminal bool
	spinning bool // the spinner's line is on the screen
	output   bool // the job's own output has begun: it may share the terminal
	stop     chan struct{}
}

func newProgress(out io.Writer, name string) *progress {
	p := &progress{out: out, name: name, terminal: printers.IsTerminal(out), stop: make(chan struct{})}
	if p.terminal {
		go p.spin()
	}
	return p
}

// noSpinner leaves the screen to several runs, each with its lines.
func (p *progress) noSpinner() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.output = true
}

// show writes a state, unless it is the last one.
func (p *progress) show(state string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	state = printable(state)
	if state == p.last {
		return
	}
	p.last = state
	p.line(state)
}

// note writes a line that is no state of the run.
func (p *progress) note(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.line(printable(fmt.Sprintf(format, args...)))
}

func (p *progress) line(text string) {
	p.clear()
	fmt.Fprintf(p.out, "%s: %s\n", p.name, text)
}

// clear takes the spinner off the screen.
func (p *progress) clear() {
	if p.spinning {
		fmt.Fprint(p.out, "\r\x1b[K")
		p.spinning = false
	}
}

// close ends the spinner.
func (p *progress) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	close(p.stop)
}

func (p *progress) spin() {
	ticker := time.NewTicker(spinInterval)
	defer ticker.Stop()
	pictures := []rune(`|/-\`)
	for i := 0; ; i++ {
		select {
		case <-p.stop:
			return
		case <-ticker.C:
			p.draw(pictures[i%len(pictures)])
		}
	}
}

func (p *progress) draw(picture rune) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.stop:
		return
	default:
	}
	if !p.output {
		fmt.Fprintf(p.out, "\r\x1b[K%c %s", picture, p.name)
		p.spinning = true
	}
}

// outputTo is a writer for the job's output that gives the terminal to it.
func (p *progress) outputTo(out io.Writer) io.Writer { return &outputWriter{progress: p, out: out} }

type outputWriter struct {
	progress *progress
	out      io.Writer
	begun    bool
}

func (w *outputWriter) Write(data []byte) (int, error) {
	if !w.begun {
		w.begun = true
		w.progress.mu.Lock()
		w.progress.output = true
		w.progress.clear()
		w.progress.mu.Unlock()
	}
	return w.out.Write(data)
}

// printable is a text of the API on one line, without anything that a terminal obeys.
func printable(text string) string { return printers.EscapeTerminal(oneLine(text)) }
