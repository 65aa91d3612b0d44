package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"math"
	"slices"
	"strings"
	"unicode"
)

// Where the area of a plot is, in units of its viewBox, which picture.html knows too.
const (
	areaLeft   = 72
	areaRight  = 720
	areaTop    = 32
	areaBottom = 300
)

const (
	// styleCount is how many colours, and how many dashes, picture.html has.
	styleCount = 6
	// maxDecades is how much a logarithmic axis shows at most, maxLabelled up to how
	// much there is room for labels at 2 and 5 too.
	maxDecades  = 12
	maxLabelled = 3.5
	// maxMarks is up to how many points of a line are marked.
	maxMarks = 100
	// narrowest is the width of a step of a distribution that is drawn by itself.
	narrowest = 0.5
)

// plot is what the template draws.
type plot struct {
	Title, XLabel, YLabel string
	X, Y                  axis
	Guides                []tick   // marked heights
	Columns               []string // of the legend, after the name
	Series                []plotLine
}

// plotLine is one line of a plot, and its line in the legend.
type plotLine struct {
	Name  string
	Style string // classes
	Path  string // SVG path data; empty if there is nothing to draw
	Marks []plotMark
	Cells []string
}

type plotMark struct {
	X, Y  float64
	Title string
}

// axis places values between two ends in the picture.
type axis struct {
	From, To float64
	Ticks    []tick

	lo, hi float64 // the values at the ends; decimal logarithms of them if log
	log    bool
}

type tick struct {
	At    float64
	Label string
}

// at returns where the value is, to a tenth of a unit. What a logarithmic axis cannot show
// is at its lower end.
func (a axis) at(v float64) float64 {
	if a.log {
		v = max(a.lo, math.Log10(max(v, math.SmallestNonzeroFloat64)))
	}
	share := (v - a.lo) / (a.hi - a.lo)
	return math.Round((a.From+share*(a.To-a.From))*10) / 10
}

func (a axis) ticked(values ...float64) axis {
	for _, v := range values {
		a.Ticks = append(a.Ticks, tick{a.at(v), exact(v)})
	}
	return a
}

// scaled returns n · 10^power, rounded once.
func scaled(n float64, power int) float64 {
	if power < 0 {
		return n / math.Pow10(-power)
	}
	return n * math.Pow10(power)
}

// nice splits the number of a value of the series ... 0.5, 1, 2, 5, 10 ..., of which
// number 0 is 1, into its first digit and its power of ten.
func nice(k int) (digit float64, power int) {
	power = int(math.Floor(float64(k) / 3))
	return []float64{1, 2, 5}[k-3*power], power
}

func niceValue(k int) float64 { return scaled(nice(k)) }

// niceBelow returns the number of the largest value of the series that is not above v, which
// is positive.
func niceBelow(v float64) int {
	k := 3 * int(math.Floor(math.Log10(v)))
	for niceValue(k) > v {
		k--
	}
	for niceValue(k+1) <= v {
		k++
	}
	return k
}

// niceAbove returns the number of the smallest value of the series that is not below v.
func niceAbove(v float64) int {
	k := niceBelow(v)
	if niceValue(k) < v {
		k++
	}
	return k
}

// linearAxis reaches from 0, or below if there are negative values, over all values.
// Its four to eight ticks are at multiples of 1, 2 or 5 times a power of ten.
func linearAxis(values []float64, from, to float64) axis {
	lo, hi := 0.0, 0.0
	for _, v := range values {
		lo, hi = min(lo, v), max(hi, v)
	}
	if lo == hi {
		hi = 1
	}
	digit, power := nice(niceAbove((hi - lo) / 6))
	step := scaled(digit, power)
	const rounding = 1e-9 // of a division that should have been even
	first, last := math.Floor(lo/step+rounding), math.Ceil(hi/step-rounding)
	a := axis{From: from, To: to, lo: scaled(first*digit, power), hi: scaled(last*digit, power)}
	for i := first; i <= last; i++ {
		a = a.ticked(scaled(i*digit, power))
	}
	return a
}

// logAxis reaches over all positive values, from tick to tick at 1, 2 and 5. If there
// are others, its lower end, a bit apart, is 0.
func logAxis(values []float64, from, to float64) axis {
	positive := slices.DeleteFunc(slices.Clone(values), func(v float64) bool { return v <= 0 })
	first, last := 0, 3
	if len(positive) > 0 {
		highest := slices.Max(positive)
		first, last = niceBelow(max(slices.Min(positive), scaled(highest, -maxDecades))), niceAbove(highest)
	}
	if first == last {
		first, last = first-1, last+1
	}
	a := axis{From: from, To: to, log: true, lo: math.Log10(niceValue(first)), hi: math.Log10(niceValue(last))}
	decades := a.hi - a.lo
	if len(positive) < len(values) {
		a.lo -= decades / 10
		a.Ticks = []tick{{from, "0"}}
	}
	for k := first; k <= last; k++ {
		a = a.ticked(niceValue(k))
		if digit, _ := nice(k); digit != 1 && decades > maxLabelled {
			a.Ticks[len(a.Ticks)-1].Label = ""
		}
	}
	return a
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

// distributionPlot draws which share of the values is at most x. Infinite ones count
// and are not reached; what is not a number does not count.
func distributionPlot(d *Distribution) plot {
	sets := each(d.Sets, func(s Samples) []float64 {
		values := slices.DeleteFunc(slices.Clone(s.Values), math.IsNaN)
		slices.Sort(values)
		return values
	})
	shown := slices.DeleteFunc(slices.Concat(sets...), func(v float64) bool { return !finite(v) })
	p := plot{
		Title: d.Title, XLabel: d.Unit + ", logarithmic", YLabel: "share of all",
		X:       logAxis(shown, areaLeft, areaRight),
		Y:       axis{From: areaBottom, To: areaTop, hi: 1}.ticked(0, 0.25, 0.5, 0.75, 1),
		Columns: []string{"n", "p50", "p99", "max"},
	}
	p.Guides = []tick{{p.Y.at(0.5), "p50"}, {p.Y.at(0.99), "p99"}}
	styles := stylesOf(each(d.Sets, func(s Samples) string { return s.Name }))
	for i, values := range sets {
		s := plotLine{Name: d.Sets[i].Name, Style: styles[i], Path: stairs(p.X, p.Y, values)}
		s.Cells = []string{exact(float64(len(values)))}
		for _, q := range []float64{0.5, 0.99, 1} {
			v := quantile(values, q)
			s.Cells = append(s.Cells, number(v))
			if finite(v) && q < 1 {
				s.Marks = append(s.Marks, plotMark{p.X.at(v), p.Y.at(q), fmt.Sprintf("%s: p%g %s %s", s.Name, 100*q, number(v), d.Unit)})
			}
		}
		p.Series = append(p.Series, s)
	}
	return p
}

// stairs returns the path of the share of the sorted values that are at most x.
func stairs(x, y axis, values []float64) string {
	reached, _ := slices.BinarySearch(values, math.Inf(1))
	if reached == 0 {
		return ""
	}
	drawn := x.at(values[0])
	var path strings.Builder
	fmt.Fprintf(&path, "M%g %g", drawn, y.at(0))
	for i, v := range values[:reached] {
		if i+1 < reached {
			if next := x.at(values[i+1]); next == x.at(v) || next-drawn < narrowest {
				continue // this step goes with the next one
			}
		}
		drawn = x.at(v)
		fmt.Fprintf(&path, "H%gV%g", drawn, y.at(float64(i+1)/float64(len(values))))
	}
	return path.String()
}

// curvePlot draws lines through the medians of what was measured at each x.
func curvePlot(c *Curve) plot {
	var xs, ys []float64
	lines := each(c.Lines, func(l Line) [][2]float64 {
		return slices.DeleteFunc(slices.Clone(l.Points), func(p [2]float64) bool { return !finite(p[0]) || !finite(p[1]) })
	})
	for _, p := range slices.Concat(lines...) {
		xs, ys = append(xs, p[0]), append(ys, p[1])
	}
	p := plot{Title: c.Title, XLabel: c.XLabel, YLabel: c.YLabel, Y: linearAxis(ys, areaBottom, areaTop)}
	if wide(xs) {
		p.X = logAxis(xs, areaLeft, areaRight)
		p.XLabel += ", logarithmic"
	} else {
		p.X = linearAxis(xs, areaLeft, areaRight)
	}
	styles := stylesOf(each(c.Lines, func(l Line) string { return l.Name }))
	for i, points := range lines {
		s := plotLine{Name: c.Lines[i].Name, Style: styles[i]}
		command := "M"
		for _, m := range medians(points) {
			s.Path += fmt.Sprintf("%s%g %g", command, p.X.at(m[0]), p.Y.at(m[1]))
			command = "L"
		}
		if len(points) <= maxMarks {
			s.Marks = each(points, func(m [2]float64) plotMark {
				return plotMark{p.X.at(m[0]), p.Y.at(m[1]), fmt.Sprintf("%s: %s at %s", s.Name, number(m[1]), number(m[0]))}
			})
		}
		p.Series = append(p.Series, s)
	}
	return p
}

// wide reports whether the positive values span more than two decades.
func wide(values []float64) bool {
	lowest, highest := math.Inf(1), 0.0
	for _, v := range values {
		if v > 0 {
			lowest, highest = min(lowest, v), max(highest, v)
		}
	}
	return highest > 100*lowest
}

// medians has one point for each x, in their order, at the median of its y.
func medians(points [][2]float64) [][2]float64 {
	at := map[float64][]float64{}
	var xs []float64
	for _, p := range points {
		if _, known := at[p[0]]; !known {
			xs = append(xs, p[0])
		}
		at[p[0]] = append(at[p[0]], p[1])
	}
	slices.Sort(xs)
	return each(xs, func(x float64) [2]float64 { return [2]float64{x, median(at[x])} })
}

// stylesOf gives each name its classes. A variant has the same in all pictures; other
// names take what is left.
func stylesOf(names []string) []string {
	fixed := []string{variantManager, variantFloor, variantPerTask, variantPlain}
	taken := map[int]bool{}
	for _, name := range names {
		if i := slices.Index(fixed, name); i >= 0 {
			taken[i] = true
		}
	}
	next := 0
	return each(names, func(name string) string {
		i := slices.Index(fixed, name)
		if i < 0 {
			for taken[next] {
				next++
			}
			i = next
			taken[i] = true
		}
		// The second round has the same colours with other dashes.
		return fmt.Sprintf("c%d d%d", i%styleCount, (i+i/styleCount)%styleCount)
	})
}

//go:embed picture.html
var pictureHTML string

var pictureTemplate = template.Must(template.New("picture").Parse(pictureHTML))

// report is what the template is given.
type report struct {
	Machine, Verdict string
	Violations       []string
	Header           row
	Groups           []group
	Plots            []plot
}

// writePicture writes the table and the pictures as one HTML file, which needs no other
// and runs no script.
func writePicture(w io.Writer, r *Results) error {
	var out bytes.Buffer
	err := pictureTemplate.Execute(&out, report{
		Machine: describe(r.Machine), Verdict: verdict(r.Figures), Violations: r.Violations,
		Header: header, Groups: grouped(r.Figures),
		Plots: slices.Concat(each(r.Distributions, distributionPlot), each(r.Curves, curvePlot)),
	})
	if err != nil {
		return err
	}
	// The template escapes what is markup; control characters may not be there at all.
	_, err = w.Write(bytes.Map(func(c rune) rune {
		if unicode.IsControl(c) && c != '\n' {
			return ' '
		}
		return c
	}, out.Bytes()))
	return err
}
