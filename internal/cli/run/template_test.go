package run

import (
	"slices"
	"testing"
)

func TestAValueMayHoldCommas(t *testing.T) {
	for text, want := range map[string][]string{
		"a=1":                          {"a=1"},
		"a=1,b=2":                      {"a=1", "b=2"},
		"example.com/a=1,b=":           {"example.com/a=1", "b="},
		`config={"a":1,"b":[2,3]}`:     {`config={"a":1,"b":[2,3]}`},
		`config={"a":1,"b":2},other=x`: {`config={"a":1,"b":2}`, "other=x"},
		`selector=a in (b, c)`:         {`selector=a in (b, c)`},
		"nonsense":                     {"nonsense"},
		"a=1,":                         {"a=1,"},
	} {
		if got := splitPairs([]string{text}); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}
