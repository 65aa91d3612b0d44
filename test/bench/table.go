package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The columns of the table.
const (
	columnName = iota
	columnVariant
	columnMedian
	columnRange
	columnUnit
	columnGoal
	columnResult
	columns
)

// What a figure's last column says; it is blank without a goal.
const (
	resultMet    = "met"
	resultNotMet = "NOT MET"
)

// alarm starts each line that says what fails the run.
const alarm = "!!! "

// row is a line of the table.
type row [columns]string

var header = row{"figure", "variant", "median", "min – max", "unit", "goal", "result"}

// group is a scenario with its rows.
type group struct {
	Scenario string
	Rows     []row
}

// grouped puts the figures of a scenario together. Scenarios, and figures in them, stay
// in the order in which they come first.
func grouped(figures []*Figure) []group {
	var groups []group
	for _, f := range figures {
		i := slices.IndexFunc(groups, func(g group) bool { return g.Scenario == f.Scenario })
		if i < 0 {
			i = len(groups)
			groups = append(groups, group{Scenario: f.Scenario})
		}
		groups[i].Rows = append(groups[i].Rows, rowOf(f))
	}
	return groups
}

func rowOf(f *Figure) row {
	line := row{
		columnName: f.Name, columnVariant: f.Variant, columnMedian: number(median(f.Values)),
		columnUnit: f.Unit, columnGoal: f.Goal,
	}
	if n := len(f.Values); n >= 2 {
		line[columnRange] = fmt.Sprintf("%s – %s, n = %d", number(slices.Min(f.Values)), number(slices.Max(f.Values)), n)
	}
	if f.Met != nil {
		line[columnResult] = resultNotMet
		if *f.Met {
			line[columnResult] = resultMet
		}
	}
	return line
}

// number writes a value for people: whole numbers, which may be counts, in full, others
// with three significant digits. Thousands are separated; there is never an exponent.
func number(v float64) string {
	switch {
	case math.IsNaN(v):
		return "n/a"
	case math.IsInf(v, 1):
		return "∞"
	case math.IsInf(v, -1):
		return "-∞"
	case v == math.Trunc(v):
		return exact(v)
	}
	mantissa, exponent, _ := strings.Cut(strconv.FormatFloat(v, 'e', 2, 64), "e")
	power, _ := strconv.Atoi(exponent) // as FormatFloat writes it
	rounded, _ := strconv.ParseFloat(mantissa+"e"+exponent, 64)
	return separated(strconv.FormatFloat(rounded, 'f', max(0, 2-power), 64))
}

// exact writes a value with as many digits as it has.
func exact(v float64) string {
	if v == 0 {
		return "0" // also what is negative zero
	}
	return separated(strconv.FormatFloat(v, 'f', -1, 64))
}

// separated puts commas between the thousands of a decimal number.
func separated(digits string) string {
	whole, fraction, decimal := strings.Cut(digits, ".")
	first := 0
	if strings.HasPrefix(whole, "-") {
		first = 1
	}
	for i := len(whole) - 3; i > first; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if decimal {
		whole += "." + fraction
	}
	return whole
}

// oneLine keeps a text from breaking a line, or from telling a terminal what to do.
func oneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(c rune) bool { return unicode.IsSpace(c) || unicode.IsControl(c) }), " ")
}

// describe returns what is known of the machine, in one line.
func describe(m Machine) string {
	var parts []string
	say := func(known bool, text string) {
		if known {
			parts = append(parts, text)
		}
	}
	say(m.CPUs > 0, fmt.Sprintf("%d CPUs", m.CPUs))
	say(m.MemoryMiB > 0, exact(float64(m.MemoryMiB))+" MiB of memory")
	say(m.System != "", m.System)
	say(m.Go != "", m.Go)
	say(m.Version != "", "version "+m.Version)
	say(m.Date != "", m.Date)
	say(m.Duration != "", "took "+m.Duration)
	return oneLine(strings.Join(parts, ", "))
}

// verdict tells how many goals are met.
func verdict(figures []*Figure) string {
	goals, met := 0, 0
	for _, f := range figures {
		if f.Met == nil {
			continue
		}
		goals++
		if *f.Met {
			met++
		}
	}
	switch {
	case len(figures) == 0:
		return "nothing was measured"
	case goals == 0:
		return "none are set"
	case goals == met:
		return fmt.Sprintf("all %d met", goals)
	}
	return fmt.Sprintf("%d of %d met, %d %s", met, goals, goals-met, resultNotMet)
}

// writeTable writes the figures as a table for a terminal, then the machine, and then
// what fails the run, each on a line that starts with the alarm.
func writeTable(w io.Writer, r *Results) error {
	var out bytes.Buffer
	groups := grouped(r.Figures)
	layout := widths(groups)
	writeRow(&out, header, layout)
	for _, g := range groups {
		fmt.Fprintf(&out, "\n%s\n", oneLine(g.Scenario))
		for _, line := range g.Rows {
			writeRow(&out, line, layout)
		}
	}
	fmt.Fprintf(&out, "\nmachine: %s\ngoals: %s\n", describe(r.Machine), verdict(r.Figures))
	if len(r.Violations) > 0 {
		fmt.Fprintf(&out, "\n%sTHE RUN HAS FAILED, violations: %d\n", alarm, len(r.Violations))
	}
	for _, v := range r.Violations {
		fmt.Fprintf(&out, "%s%s\n", alarm, oneLine(v))
	}
	_, err := w.Write(out.Bytes())
	return err
}

// widths returns the widest cell of each column, in characters.
func widths(groups []group) [columns]int {
	var widest [columns]int
	rows := []row{header}
	for _, g := range groups {
		rows = append(rows, g.Rows...)
	}
	for _, line := range rows {
		for i, cell := range line {
			widest[i] = max(widest[i], utf8.RuneCountInString(oneLine(cell)))
		}
	}
	return widest
}

// writeRow writes one indented line; medians stand to the right, everything else to the left.
func writeRow(out *bytes.Buffer, cells row, widest [columns]int) {
	var line strings.Builder
	for i, cell := range cells {
		cell = oneLine(cell)
		padding := strings.Repeat(" ", widest[i]-utf8.RuneCountInString(cell))
		if i == columnMedian {
			cell = padding + cell
		} else {
			cell += padding
		}
		line.WriteString("  " + cell)
	}
	out.WriteString(strings.TrimRight(line.String(), " ") + "\n")
}

// markdown returns a text that is only text in a cell of a Markdown table.
func markdown(s string) string {
	return strings.NewReplacer(`\`, `\\`, "|", `\|`, "*", `\*`, "`", "\\`", "&", "&amp;", "<", "&lt;").Replace(oneLine(s))
}

// writeMarkdown writes the same as writeTable in Markdown, without headings.
func writeMarkdown(w io.Writer, r *Results) error {
	var out bytes.Buffer
	writeCells(&out, header)
	out.WriteString("|---|---|---:|---|---|---|---|\n")
	for _, g := range grouped(r.Figures) {
		fmt.Fprintf(&out, "| **%s** |%s\n", markdown(g.Scenario), strings.Repeat(" |", columns-1))
		for _, line := range g.Rows {
			writeCells(&out, line)
		}
	}
	fmt.Fprintf(&out, "\nMachine: %s.\n\nGoals: %s.\n", markdown(describe(r.Machine)), markdown(verdict(r.Figures)))
	if len(r.Violations) > 0 {
		fmt.Fprintf(&out, "\n**The run has failed**, violations: %d\n\n", len(r.Violations))
	}
	for _, v := range r.Violations {
		fmt.Fprintf(&out, "- %s\n", markdown(v))
	}
	_, err := w.Write(out.Bytes())
	return err
}

func writeCells(out *bytes.Buffer, cells row) {
	for i, cell := range cells {
		cell = markdown(cell)
		if i == columnResult && cell == resultNotMet {
			cell = "**" + cell + "**"
		}
		out.WriteString(strings.TrimRight("| "+cell, " ") + " ")
	}
	out.WriteString("|\n")
}

// jsonNumber is a number that is null where JSON has none for it: NaN and infinity.
type jsonNumber float64

// MarshalJSON implements json.Marshaler.
func (n jsonNumber) MarshalJSON() ([]byte, error) {
	if v := float64(n); !math.IsNaN(v) && !math.IsInf(v, 0) {
		return json.Marshal(v)
	}
	return []byte("null"), nil
}

// The types below hide the numbers of the embedded ones behind their own, and empty
// lists instead of nil ones.
type (
	jsonResults struct {
		*Results
		Figures       []jsonFigure       `json:"figures"`
		Distributions []jsonDistribution `json:"distributions"`
		Curves        []jsonCurve        `json:"curves"`
		Violations    []string           `json:"violations"`
	}
	jsonFigure struct {
		*Figure
		Values []jsonNumber `json:"values"`
	}
	jsonDistribution struct {
		*Distribution
		Sets []jsonSamples `json:"sets"`
	}
	jsonSamples struct {
		Samples
		Values []jsonNumber `json:"values"`
	}
	jsonCurve struct {
		*Curve
		Lines []jsonLine `json:"lines"`
	}
	jsonLine struct {
		Line
		Points [][2]jsonNumber `json:"points"`
	}
)

// each returns what f makes of every item; never nil.
func each[T, U any](list []T, f func(T) U) []U {
	made := make([]U, 0, len(list))
	for _, item := range list {
		made = append(made, f(item))
	}
	return made
}

func jsonNumbers(values []float64) []jsonNumber {
	return each(values, func(v float64) jsonNumber { return jsonNumber(v) })
}

// writeJSON writes the results as indented JSON, with null for what is not a finite number.
func writeJSON(w io.Writer, r *Results) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(jsonResults{
		Results: r,
		Figures: each(r.Figures, func(f *Figure) jsonFigure {
			return jsonFigure{f, jsonNumbers(f.Values)}
		}),
		Distributions: each(r.Distributions, func(d *Distribution) jsonDistribution {
			return jsonDistribution{d, each(d.Sets, func(s Samples) jsonSamples {
				return jsonSamples{s, jsonNumbers(s.Values)}
			})}
		}),
		Curves: each(r.Curves, func(c *Curve) jsonCurve {
			return jsonCurve{c, each(c.Lines, func(l Line) jsonLine {
				return jsonLine{l, each(l.Points, func(p [2]float64) [2]jsonNumber {
					return [2]jsonNumber{jsonNumber(p[0]), jsonNumber(p[1])}
				})}
			})}
		}),
		Violations: each(r.Violations, func(v string) string { return v }),
	})
}
