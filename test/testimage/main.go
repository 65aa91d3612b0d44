// Command testimage is the one program of the image that real nodes of local
// clusters run. It does what its flags say, in this order, and exits:
//
//	-print TEXT        print a line
//	-lines N           print N numbered lines, "000001 xxx..." and so on
//	-line-bytes B      make each of these so long, with its end of line (64)
//	-rate R            print R of them a second (0: as fast as it can)
//	-stderr            print all that to standard error
//	-allocate M        take M MiB of memory, and use them
//	-message TEXT      write the termination message
//	-fail-once FILE    exit with 1 if there is no such file, and make it
//	-sleep D           wait, such as 3s
//	-exit N            exit with N (0)
//
// SIGTERM ends it at any time:
//
//	-on-term N         with this exit code (143, as by default in a shell)
//	-on-term ignore    not at all
//
// Without any argument it waits for SIGTERM and exits with 0, which is what the
// container must do that holds a Pod's namespaces.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// messagePath is where the kubelet reads the termination message by default.
const messagePath = "/dev/termination-log"

// terminated is the exit code of a program that SIGTERM ended.
const terminated = 128 + int(syscall.SIGTERM)

type behaviour struct {
	text      string
	lines     int
	lineBytes int
	rate      float64
	stderr    bool
	allocate  int
	message   string
	failOnce  string
	sleep     time.Duration
	exit      int
	onTerm    string
}

func main() {
	if len(os.Args) == 1 {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
		<-ctx.Done()
		stop()
		return
	}
	b := parse()
	if err := b.obeyTerm(); err != nil {
		fail(err)
	}
	code, err := b.run()
	if err != nil {
		fail(err)
	}
	os.Exit(code)
}

func parse() behaviour {
	var b behaviour
	flag.StringVar(&b.text, "print", "", "a line to print")
	flag.IntVar(&b.lines, "lines", 0, "number of lines to print")
	flag.IntVar(&b.lineBytes, "line-bytes", 64, "length of each of these lines")
	flag.Float64Var(&b.rate, "rate", 0, "lines a second; 0 is as fast as it can")
	flag.BoolVar(&b.stderr, "stderr", false, "print to standard error")
	flag.IntVar(&b.allocate, "allocate", 0, "MiB of memory to take")
	flag.StringVar(&b.message, "message", "", "termination message")
	flag.StringVar(&b.failOnce, "fail-once", "", "a file without which to exit with 1")
	flag.DurationVar(&b.sleep, "sleep", 0, "how long to wait")
	flag.IntVar(&b.exit, "exit", 0, "exit code")
	flag.StringVar(&b.onTerm, "on-term", strconv.Itoa(terminated), "exit code at SIGTERM, or ignore")
	flag.Parse()
	return b
}

// obeyTerm sees to SIGTERM, which would do nothing to the first process of a
// container that has no handler.
func (b behaviour) obeyTerm() error {
	if b.onTerm == "ignore" {
		signal.Ignore(syscall.SIGTERM)
		return nil
	}
	code, err := strconv.Atoi(b.onTerm)
	if err != nil {
		return fmt.Errorf("-on-term %q: give an exit code or ignore", b.onTerm)
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	go func() {
		<-signals
		os.Exit(code)
	}()
	return nil
}

func (b behaviour) run() (code int, err error) {
	if err := b.print(); err != nil {
		return 0, err
	}
	held := take(b.allocate)
	if b.message != "" {
		if err := os.WriteFile(messagePath, []byte(b.message), 0o644); err != nil {
			return 0, err
		}
	}
	if b.failOnce != "" {
		if file, err := os.OpenFile(b.failOnce, os.O_CREATE|os.O_EXCL, 0o644); err == nil {
			return 1, file.Close()
		} else if !errors.Is(err, os.ErrExist) {
			return 0, err
		}
	}
	<-time.After(b.sleep)
	runtime.KeepAlive(held)
	return b.exit, nil
}

func (b behaviour) print() error {
	var out io.Writer = os.Stdout
	if b.stderr {
		out = os.Stderr
	}
	if b.text != "" {
		fmt.Fprintln(out, b.text)
	}
	if b.rate == 0 {
		buffered := bufio.NewWriterSize(out, 64<<10)
		for i := range b.lines {
			fmt.Fprintln(buffered, b.line(i+1))
		}
		return buffered.Flush()
	}
	next := time.NewTicker(time.Duration(float64(time.Second) / b.rate))
	defer next.Stop()
	for i := range b.lines {
		fmt.Fprintln(out, b.line(i+1))
		<-next.C
	}
	return nil
}

// line returns one numbered line, so that a reader sees whether one is lost or doubled.
func (b behaviour) line(number int) string {
	line := fmt.Sprintf("%06d ", number)
	return line + strings.Repeat("x", max(0, b.lineBytes-len(line)-1))
}

// take uses every page of so many MiB: memory that was only asked for is not taken.
func take(mib int) [][]byte {
	var taken [][]byte
	for range mib {
		block := make([]byte, 1<<20)
		for i := 0; i < len(block); i += os.Getpagesize() {
			block[i] = 1
		}
		taken = append(taken, block)
	}
	return taken
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "testimage:", err)
	os.Exit(2)
}
