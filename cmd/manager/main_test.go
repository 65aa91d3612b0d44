package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"flag"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	. "github.com/onsi/gomega"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"github.com/pooledjob/pooledjob/controllers"
	"github.com/pooledjob/pooledjob/internal/connpool"
)

// The flags that tune the pool, and what each of them must change in its options. No
// two have the same value, so that none can be taken for another.
var targetFlags = []struct {
	name, value string
	set         func(*connpool.Options)
}{
	{"target-dial-timeout", "71s", func(o *connpool.Options) { o.DialTimeout = 71 * time.Second }},
	{"target-tls-handshake-timeout", "72s", func(o *connpool.Options) { o.TLSHandshakeTimeout = 72 * time.Second }},
	{"target-ping-interval", "73s", func(o *connpool.Options) { o.PingInterval = 73 * time.Second }},
	{"target-ping-timeout", "74s", func(o *connpool.Options) { o.PingTimeout = 74 * time.Second }},
	{"target-probe-interval", "75s", func(o *connpool.Options) { o.ProbeInterval = 75 * time.Second }},
	{"target-probe-timeout", "76s", func(o *connpool.Options) { o.ProbeTimeout = 76 * time.Second }},
	{"target-request-timeout", "77s", func(o *connpool.Options) { o.RequestTimeout = 77 * time.Second }},
	{"target-max-in-flight", "78", func(o *connpool.Options) { o.MaxInFlight = 78 }},
	{"target-max-memory-bytes", "2097152", func(o *connpool.Options) { o.MaxMemory = 2 << 20 }},
	{"target-qps", "79", func(o *connpool.Options) { o.QPS = 79 }},
}

// parse returns what a command line makes of the flags.
func parse(t *testing.T, args ...string) (*Options, *flag.FlagSet) {
	t.Helper()
	options, flags := &Options{}, flag.NewFlagSet("manager", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	options.addFlags(flags)
	NewWithT(t).Expect(flags.Parse(args)).To(Succeed())
	return options, flags
}

// handedOver returns what the reconcilers get of the options, without what cannot be
// compared and no flag is about.
func handedOver(options *Options) controllers.Options {
	handed := options.forControllers("the hub", nil)
	handed.Pool.OnState, handed.Pool.OnChange, handed.Pool.Log = nil, nil, logr.Logger{}
	return handed
}

func TestEachTargetFlagSetsItsOwnField(t *testing.T) {
	without, flags := parse(t)
	all, args := handedOver(without), []string(nil)
	known := map[string]bool{}
	for _, test := range targetFlags {
		t.Run(test.name, func(t *testing.T) {
			want := handedOver(without)
			test.set(&want.Pool)
			given, _ := parse(t, "--"+test.name+"="+test.value)
			NewWithT(t).Expect(handedOver(given)).To(Equal(want), "this field, and no other")
		})
		test.set(&all.Pool)
		args = append(args, "--"+test.name, test.value)
		known[test.name] = true
	}
	t.Run("all at once", func(t *testing.T) {
		given, _ := parse(t, args...)
		NewWithT(t).Expect(handedOver(given)).To(Equal(all))
	})
	flags.VisitAll(func(f *flag.Flag) {
		if strings.HasPrefix(f.Name, "target-") {
			NewWithT(t).Expect(known).To(HaveKey(f.Name), "what the flag must change is not said here")
		}
	})
}

func TestOtherFlagsReachTheReconcilers(t *testing.T) {
	without, _ := parse(t)
	for arg, set := range map[string]func(*controllers.Options){
		"--namespace=elsewhere":           func(o *controllers.Options) { o.Namespace = "elsewhere" },
		"--workers=81":                    func(o *controllers.Options) { o.Workers = 81 },
		"--credential-expiry-warning=82h": func(o *controllers.Options) { o.ExpiryWarning = 82 * time.Hour },
		"--orphan-policy=Delete":          func(o *controllers.Options) { o.Orphans.Delete = true },
	} {
		t.Run(arg, func(t *testing.T) {
			want := handedOver(without)
			set(&want)
			given, _ := parse(t, arg)
			NewWithT(t).Expect(handedOver(given)).To(Equal(want), "this field, and no other")
		})
	}
}

// documentedFlags returns the flags in the table of docs/operations.md, with the default
// that it prints.
func documentedFlags(t *testing.T) map[string]string {
	t.Helper()
	g := NewWithT(t)
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "operations.md"))
	g.Expect(err).NotTo(HaveOccurred())
	row := regexp.MustCompile("(?m)^\\| (`--[^|]*)\\|([^|]*)\\|")
	name := regexp.MustCompile("`--([a-z-]+)`")
	documented := map[string]string{}
	for _, cells := range row.FindAllStringSubmatch(string(page), -1) {
		for _, found := range name.FindAllStringSubmatch(cells[1], -1) {
			g.Expect(documented).NotTo(HaveKey(found[1]))
			documented[found[1]], _, _ = strings.Cut(strings.TrimSpace(cells[2]), ";") // then it is about the Deployment
		}
	}
	return documented
}

// TestDocumentedDefaultsApply gives each flag the default that is printed for it, which
// must change nothing.
func TestDocumentedDefaultsApply(t *testing.T) {
	t.Setenv(namespaceEnv, "a-namespace")
	inWords := map[string]string{"`$" + namespaceEnv + "`": "a-namespace", "off": "false", "on": "true"}
	without, flags := parse(t)
	documented := documentedFlags(t)
	flags.VisitAll(func(f *flag.Flag) {
		t.Run(f.Name, func(t *testing.T) {
			g := NewWithT(t)
			g.Expect(documented).To(HaveKey(f.Name))
			if strings.HasPrefix(f.Name, "zap-") {
				return // see TestLogsAreJSON
			}
			text := cmp.Or(inWords[documented[f.Name]], strings.Trim(documented[f.Name], "`"))
			g.Expect(text).NotTo(BeEmpty())
			given, _ := parse(t, "--"+f.Name+"="+text)
			g.Expect(plain(given)).To(Equal(plain(without)), "another default than %s applies", text)
		})
		delete(documented, f.Name)
	})
	NewWithT(t).Expect(documented).To(HaveLen(1), "flags that do not exist")
	NewWithT(t).Expect(documented).To(HaveKey("kubeconfig"), "which comes with a library")
	NewWithT(t).Expect(flag.CommandLine.Lookup("kubeconfig")).NotTo(BeNil())
}

// plain returns the options without functions, which cannot be compared.
func plain(options *Options) Options {
	c := *options
	c.Target.OnState, c.Target.OnChange, c.logging = nil, nil, zap.Options{}
	return c
}

// TestDefaultsAreThePools: the pool fills in what is left out, and a flag that did not
// name the same default would hide it.
func TestDefaultsAreThePools(t *testing.T) {
	options, _ := parse(t)
	want := Options{Target: connpool.Options{}.WithDefaults()}
	NewWithT(t).Expect(plain(options).Target).To(Equal(plain(&want).Target))
	options.Namespace = "a-namespace"
	NewWithT(t).Expect(options.validate()).To(Succeed())
}

func TestLogsAreJSON(t *testing.T) {
	g := NewWithT(t)
	g.Expect(documentedFlags(t)).To(And(HaveKeyWithValue("zap-log-level", "`info`"), HaveKeyWithValue("zap-encoder", "`json`")))
	options, _ := parse(t)
	var lines bytes.Buffer
	options.logging.DestWriter = &lines
	logger := zap.New(zap.UseFlagOptions(&options.logging))
	logger.V(1).Info("debug")
	logger.Info("info")
	var line map[string]any
	g.Expect(json.Unmarshal(lines.Bytes(), &line)).To(Succeed(), "one line, in JSON: %s", &lines)
	g.Expect(line).To(And(HaveKeyWithValue("level", "info"), HaveKeyWithValue("msg", "info")))
}

func TestValuesThatCannotWorkAreRefused(t *testing.T) {
	for arg, words := range map[string]string{
		"--namespace=":                       "set --namespace or $POD_NAMESPACE",
		"--workers=0":                        "--workers is 0",
		"--credential-expiry-warning=-1s":    "--credential-expiry-warning is -1s",
		"--orphan-policy=delete":             `--orphan-policy is "delete"`,
		"--target-dial-timeout=-1s":          "dial-timeout is -1s",
		"--target-tls-handshake-timeout=-1s": "tls-handshake-timeout is -1s",
		"--target-ping-interval=-1s":         "ping-interval is -1s",
		"--target-ping-timeout=-1s":          "ping-timeout is -1s",
		"--target-probe-interval=-1s":        "probe-interval is -1s",
		"--target-probe-timeout=-1s":         "probe-timeout is -1s",
		"--target-request-timeout=-1s":       "request-timeout is -1s",
		"--target-max-in-flight=-1":          "max-in-flight is -1",
		"--target-max-in-flight=91":          "max-in-flight is 91; it must be from 1 to 90",
		"--target-qps=-1":                    "qps is -1",
		"--target-max-memory-bytes=1000":     "max-memory-bytes is 1000; it must be at least 1048576",
		"--logs-total=0":                     "--logs-total is 0",
	} {
		t.Run(arg, func(t *testing.T) {
			options, _ := parse(t, "--namespace=a-namespace", arg)
			NewWithT(t).Expect(options.validate()).To(MatchError(ContainSubstring(words)))
		})
	}
}
