package main

import (
	"bytes"
	"log"
	"testing"

	. "github.com/onsi/gomega"
	"golang.org/x/time/rate"
)

func TestThePacedLogDropsLinesThatComeTooOften(t *testing.T) {
	g, out := NewWithT(t), &bytes.Buffer{}
	logger := log.New(&pacedWriter{Writer: out, pace: rate.NewLimiter(rate.Every(1<<62), stdlogBurst)}, "", 0)
	for range 10 * stdlogBurst {
		logger.Print("a line")
	}
	g.Expect(bytes.Count(out.Bytes(), []byte("a line\n"))).To(Equal(stdlogBurst))
}
