package logcursor

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

type line struct {
	at   time.Time
	text string
}

func (l line) String() string { return l.at.Format(time.RFC3339Nano) + " " + l.text + "\n" }

// served returns what an API server gives of a log from a time on.
func served(log []line, since time.Time) string {
	var b strings.Builder
	for _, l := range log {
		if !l.at.Before(since) {
			b.WriteString(l.String())
		}
	}
	return b.String()
}

func plain(log []line) string {
	var b strings.Builder
	for _, l := range log {
		b.WriteString(l.text + "\n")
	}
	return b.String()
}

// randomLog has many lines at the same time, empty ones, ones out of order and ones that
// look like a time.
func randomLog(r *rand.Rand, start time.Time) []line {
	log, at := make([]line, 1+r.IntN(60)), start
	for i := range log {
		switch r.IntN(6) {
		case 0:
		case 1:
			at = at.Add(-time.Duration(r.IntN(1000)))
		default:
			at = at.Add(time.Duration(r.IntN(600_000_000)))
		}
		text := strings.Repeat("x", r.IntN(40)) + fmt.Sprint(i)
		switch r.IntN(8) {
		case 0:
			text = ""
		case 1:
			text = at.Format(time.RFC3339Nano) + " "
		}
		log[i] = line{at, text}
	}
	return log
}

func TestNothingIsLostOrDoubledHoweverOftenTheStreamBreaks(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 999_000_000, time.UTC)
	for seed := range uint64(20_000) {
		r := rand.New(rand.NewPCG(seed, 0))
		log := randomLog(r, start)
		var out bytes.Buffer
		c := &Cursor{Output: &out}
		for range r.IntN(5) {
			since, _ := c.Since()
			go1 := served(log[:1+r.IntN(len(log))], since)
			c.Resume()
			feed(t, r, c, go1[:r.IntN(len(go1)+1)])
		}
		since, _ := c.Since()
		c.Resume()
		feed(t, r, c, served(log, since))
		if got, want := out.String(), plain(log); got != want {
			t.Fatalf("seed %d: got\n%s\nwant\n%s", seed, got, want)
		}
	}
}

// feed writes in pieces.
func feed(t *testing.T, r *rand.Rand, c *Cursor, text string) {
	t.Helper()
	for text != "" {
		n := 1 + r.IntN(len(text))
		if written, err := c.Write([]byte(text[:n])); err != nil || written != n {
			t.Fatal(written, err)
		}
		text = text[n:]
	}
}

func TestOddLogs(t *testing.T) {
	at := func(s int) time.Time { return time.Date(2026, 1, 2, 3, 4, s, 5, time.UTC) }
	first, second := line{at(1), "one"}.String(), line{at(2), "two"}.String()
	for name, test := range map[string]struct {
		goes       []string
		timestamps bool
		want       string
	}{
		"with timestamps":                    {goes: []string{first + second[:8], second}, timestamps: true, want: first + second},
		"cut within a line, with timestamps": {goes: []string{first + second[:33], first + second}, timestamps: true, want: first + second},
		"without timestamps":                 {goes: []string{"no time here\nand more than thirty-five bytes without a blank-------------\n"}, want: "no time here\nand more than thirty-five bytes without a blank-------------\n"},
		"without timestamps, twice":          {goes: []string{"one\nt", "one\ntwo\nthree\n"}, want: "one\ntwo\nthree\n"},
		"the kubelet's own words":            {goes: []string{first + "unable to retrieve container logs\n" + second + "rpc error", second + "lstat: no such file or directory, so sorry, so very sorry\n"}, want: "one\ntwo\n"},
		"a time alone":                       {goes: []string{"2026-01-02T03:04:05Z\n" + first}, want: "\none\n"},
		"another container":                  {goes: []string{first, second}, want: "one\ntwo\n"},
		"the end of a line that is gone":     {goes: []string{first[:len(first)-2], second}, want: "on\ntwo\n"},
		"the same container again":           {goes: []string{first + second, first + second}, want: "one\ntwo\n"},
		"an end without a line's end":        {goes: []string{first + second[:len(second)-1]}, want: "one\ntwo"},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			c := &Cursor{Output: &out, Timestamps: test.timestamps, AllowGap: true}
			for _, text := range test.goes {
				c.Resume()
				if _, err := c.Write([]byte(text)); err != nil {
					t.Fatal(err)
				}
			}
			if out.String() != test.want {
				t.Errorf("got %q, want %q", out.String(), test.want)
			}
		})
	}
}

func TestAGapIsToldAndNothingAfterItIsTaken(t *testing.T) {
	at := func(s int) time.Time { return time.Date(2026, 1, 2, 3, 4, s, 5, time.UTC) }
	var out bytes.Buffer
	c := &Cursor{Output: &out}
	for _, go1 := range []struct {
		text  string
		allow bool
		err   error
		want  string
	}{
		{text: line{at(1), "one"}.String(), want: "one\n"},
		{text: line{at(3), "three"}.String(), err: ErrGap, want: "one\n"},
		{text: line{at(1), "one"}.String() + line{at(2), "two"}.String(), want: "one\ntwo\n"},
		{text: line{at(3), "three"}.String(), allow: true, want: "one\ntwo\nthree\n"},
	} {
		c.AllowGap = go1.allow
		c.Resume()
		if _, err := c.Write([]byte(go1.text)); err != go1.err || out.String() != go1.want { //nolint:errorlint // it is returned as it is
			t.Errorf("got %q, %v, want %q, %v", out.String(), err, go1.want, go1.err)
		}
	}
}
