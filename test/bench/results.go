package main

import (
	"fmt"
	"math"
	"slices"
	"sync"
)

// Results are everything that a run of the benchmark has measured.
type Results struct {
	// Machine says where and of what it was measured.
	Machine Machine `json:"machine"`
	// Figures are the numbers of the table, in its order.
	Figures []*Figure `json:"figures"`
	// Distributions and Curves are what is drawn.
	Distributions []*Distribution `json:"distributions"`
	Curves        []*Curve        `json:"curves"`
	// Violations are counted things that are not as promised: they fail the run.
	Violations []string `json:"violations"`

	mu sync.Mutex
}

// Machine is what the numbers depend on.
type Machine struct {
	CPUs      int    `json:"cpus"`
	MemoryMiB int    `json:"memoryMiB"`
	System    string `json:"system"`
	Go        string `json:"go"`
	Version   string `json:"version"` // of the product's sources
	Date      string `json:"date"`
	Duration  string `json:"duration"`
}

// Figure is one quantity of one variant, measured once in each repetition.
type Figure struct {
	Scenario string    `json:"scenario"`
	Name     string    `json:"name"`
	Variant  string    `json:"variant"`
	Unit     string    `json:"unit"`
	Values   []float64 `json:"values"`
	// Goal is in words; Met reports whether the median reaches it. Both are absent from
	// figures that are there to compare others with.
	Goal string `json:"goal,omitempty"`
	Met  *bool  `json:"met,omitempty"`
}

// Distribution is a picture of how latencies are spread.
type Distribution struct {
	Title string    `json:"title"`
	Unit  string    `json:"unit"`
	Sets  []Samples `json:"sets"`
}

// Samples are all values of one variant, in the order in which they were measured.
type Samples struct {
	Name   string    `json:"name"`
	Values []float64 `json:"values"`
}

// Curve is a picture of quantities over another one.
type Curve struct {
	Title  string `json:"title"`
	XLabel string `json:"xLabel"`
	YLabel string `json:"yLabel"`
	Lines  []Line `json:"lines"`
}

// Line is one quantity of a Curve.
type Line struct {
	Name   string       `json:"name"`
	Points [][2]float64 `json:"points"`
}

// Variants that are measured beside each other.
const (
	variantFloor   = "floor"
	variantManager = "PooledJob"
	variantPerTask = "per-task client"
	variantPlain   = "plain client"
)

// add appends one measured value to the figure of that name, which is made if need be.
func (r *Results) add(scenario, name, variant, unit string, values ...float64) *Figure {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, v := range values {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			r.violate("%s, %s of %s: what was measured is no finite number", scenario, name, variant)
		}
	}
	for _, f := range r.Figures {
		if f.Scenario == scenario && f.Name == name && f.Variant == variant && f.Unit == unit {
			f.Values = append(f.Values, values...)
			return f
		}
	}
	f := &Figure{Scenario: scenario, Name: name, Variant: variant, Unit: unit, Values: slices.Clone(values)}
	r.Figures = append(r.Figures, f)
	return f
}

// atLeast and atMost judge a figure by its median.
func (f *Figure) atLeast(bound float64) {
	f.judge(fmt.Sprintf("≥ %g", bound), median(f.Values) >= bound)
}

func (f *Figure) atMost(bound float64) {
	f.judge(fmt.Sprintf("≤ %g", bound), median(f.Values) <= bound)
}

func (f *Figure) judge(goal string, met bool) { f.Goal, f.Met = goal, &met }

// mustBe judges a figure that counts something: any other value fails the run. It is to be
// called after each value.
func (r *Results) mustBe(f *Figure, want float64) { r.mustBeWithin(f, want, want) }

// mustBeWithin is mustBe with bounds.
func (r *Results) mustBeWithin(f *Figure, least, most float64) {
	goal := fmt.Sprintf("%g to %g", least, most)
	switch least {
	case most:
		goal = fmt.Sprintf("= %g", most)
	case 0:
		goal = fmt.Sprintf("≤ %g", most)
	}
	isWithin := func(v float64) bool { return v >= least && v <= most }
	f.judge(goal, !slices.ContainsFunc(f.Values, func(v float64) bool { return !isWithin(v) }))
	if last := f.Values[len(f.Values)-1]; !isWithin(last) {
		r.violated("%s, %s: %g %s, must be %s", f.Scenario, f.Name, last, f.Unit, goal)
	}
}

func (r *Results) violated(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.violate(format, args...)
}

// violate is violated with the lock held.
func (r *Results) violate(format string, args ...any) {
	r.Violations = append(r.Violations, fmt.Sprintf(format, args...))
}

// spread adds values to the set of a variant in a distribution.
func (r *Results) spread(title, unit, variant string, values []float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	d := find(r.Distributions, func(d *Distribution) bool { return d.Title == title })
	if d == nil {
		d = &Distribution{Title: title, Unit: unit}
		r.Distributions = append(r.Distributions, d)
	}
	for i := range d.Sets {
		if d.Sets[i].Name == variant {
			d.Sets[i].Values = append(d.Sets[i].Values, values...)
			return
		}
	}
	d.Sets = append(d.Sets, Samples{Name: variant, Values: slices.Clone(values)})
}

// point adds a point to a line of a curve.
func (r *Results) point(curve Curve, line string, x, y float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := find(r.Curves, func(c *Curve) bool { return c.Title == curve.Title })
	if c == nil {
		c = &curve
		r.Curves = append(r.Curves, c)
	}
	for i := range c.Lines {
		if c.Lines[i].Name == line {
			c.Lines[i].Points = append(c.Lines[i].Points, [2]float64{x, y})
			return
		}
	}
	c.Lines = append(c.Lines, Line{Name: line, Points: [][2]float64{{x, y}}})
}

func find[T any](list []*T, is func(*T) bool) *T {
	if i := slices.IndexFunc(list, is); i >= 0 {
		return list[i]
	}
	return nil
}
