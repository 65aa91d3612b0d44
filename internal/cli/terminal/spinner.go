package terminal

import (
	"fmt"
	"time"
)

// spinInterval is the time between two pictures of the spinner.
const spinInterval = 120 * time.Millisecond

func (p *Progress) spin() {
	ticker := time.NewTicker(spinInterval)
	defer ticker.Stop()
	pictures := []rune(`|/-\`)
	for i := 0; ; i++ {
		select {
		case <-p.stop:
			return
		case <-ticker.C:
			p.drawSpinner(pictures[i%len(pictures)])
		}
	}
}

func (p *Progress) drawSpinner(picture rune) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.stop:
		return
	default:
	}
	if !p.screenUsed {
		fmt.Fprintf(p.out, "\r\x1b[K%c %s", picture, p.name)
		p.spinning = true
	}
}

// clearSpinner takes the spinner off the screen.
func (p *Progress) clearSpinner() {
	if p.spinning {
		fmt.Fprint(p.out, "\r\x1b[K")
		p.spinning = false
	}
}
