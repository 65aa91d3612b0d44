package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
)

// writers are all forms of the report.
var writers = map[string]func(io.Writer, *Results) error{
	"table": writeTable, "Markdown": writeMarkdown, "JSON": writeJSON, "picture": writePicture,
}

// results has a bit of everything.
func results() *Results {
	r := &Results{Machine: Machine{
		CPUs: 2, MemoryMiB: 24000, System: "linux/amd64", Go: "go1.26.8", Version: "abc1234", Date: "2026-11-22", Duration: "31m",
	}}
	r.add("throughput", "end to end", variantFloor, "jobs/s", 141.26, 139.9, 150)
	r.add("requests", "hub writes per job", variantManager, "", 4, 5).judge("= 4", false)
	r.add("throughput", "share of floor", variantManager, "%", 65.25).judge("≥ 60 %", true)
	r.violated("requests: 5, must be 4")
	r.spread("status lag", "ms", variantManager, []float64{4, 1, 2, 8})
	r.spread("status lag", "ms", variantFloor, []float64{1})
	memory := Curve{Title: "memory", XLabel: "jobs", YLabel: "MiB"}
	r.point(memory, "heap", 0, 20)
	r.point(memory, "heap", 1000, 28.5)
	return r
}

func written(t *testing.T, write func(io.Writer, *Results) error, r *Results) string {
	t.Helper()
	var out bytes.Buffer
	NewWithT(t).Expect(write(&out, r)).To(Succeed())
	return out.String()
}

func TestNumbersAreForPeople(t *testing.T) {
	for _, c := range []struct {
		value float64
		want  string
	}{
		{0, "0"},
		{math.Copysign(0, -1), "0"},
		{7, "7"},
		{-7, "-7"},
		{100, "100"},
		{-100, "-100"},
		{1003, "1,003"},
		{-1003, "-1,003"},
		{-100000, "-100,000"},
		{1234567, "1,234,567"},
		{1e15, "1,000,000,000,000,000"},
		{0.5, "0.500"},
		{-0.25, "-0.250"},
		{0.000123456, "0.000123"},
		{1.2e-7, "0.000000120"},
		{1.005, "1.00"},
		{9.994, "9.99"},
		{9.996, "10.0"},
		{12.34, "12.3"},
		{99.96, "100"},
		{123.4, "123"},
		{999.6, "1,000"},
		{1234.5, "1,230"},
		{-1234567.8, "-1,230,000"},
		{math.NaN(), "n/a"},
		{math.Inf(1), "∞"},
		{math.Inf(-1), "-∞"},
	} {
		NewWithT(t).Expect(number(c.value)).To(Equal(c.want), "%g", c.value)
	}
}

func TestTheTableIsAsAPersonReadsIt(t *testing.T) {
	g := NewWithT(t)
	table := `  figure              variant    median  min – max         unit    goal    result

throughput
  end to end          floor         141  140 – 150, n = 3  jobs/s
  share of floor      PooledJob    65.2                    %       ≥ 60 %  met

requests
  hub writes per job  PooledJob    4.50  4 – 5, n = 2              = 4     NOT MET

machine: 2 CPUs, 24,000 MiB of memory, linux/amd64, go1.26.8, version abc1234, 2026-11-22, took 31m
goals: 1 of 2 met, 1 NOT MET

!!! THE RUN HAS FAILED, violations: 1
!!! requests: 5, must be 4
`
	g.Expect(written(t, writeTable, results())).To(Equal(table))
}

func TestTheMarkdownTableSaysTheSame(t *testing.T) {
	g := NewWithT(t)
	table := `| figure | variant | median | min – max | unit | goal | result |
|---|---|---:|---|---|---|---|
| **throughput** | | | | | | |
| end to end | floor | 141 | 140 – 150, n = 3 | jobs/s | | |
| share of floor | PooledJob | 65.2 | | % | ≥ 60 % | met |
| **requests** | | | | | | |
| hub writes per job | PooledJob | 4.50 | 4 – 5, n = 2 | | = 4 | **NOT MET** |

Machine: 2 CPUs, 24,000 MiB of memory, linux/amd64, go1.26.8, version abc1234, 2026-11-22, took 31m.

Goals: 1 of 2 met, 1 NOT MET.

**The run has failed**, violations: 1

- requests: 5, must be 4
`
	g.Expect(written(t, writeMarkdown, results())).To(Equal(table))
}

func TestTheVerdictCountsGoals(t *testing.T) {
	g := NewWithT(t)
	met, free := &Figure{}, &Figure{}
	met.judge("= 1", true)
	g.Expect(verdict(nil)).To(Equal("nothing was measured"))
	g.Expect(verdict([]*Figure{free})).To(Equal("none are set"))
	g.Expect(verdict([]*Figure{free, met, met})).To(Equal("all 2 met"))
}

func TestJSONComesBackAsItWas(t *testing.T) {
	g := NewWithT(t)
	r, back := results(), &Results{}
	text := written(t, writeJSON, r)
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	g.Expect(decoder.Decode(back)).To(Succeed())
	g.Expect(back).To(Equal(r))
	g.Expect(text).To(HavePrefix("{\n  \"machine\": {\n"))
	g.Expect(text).To(ContainSubstring(`"≥ 60 %"`))
}

// What hides fields of an embedded type must hide all of them.
func TestJSONHasEachFieldOnce(t *testing.T) {
	for shadow, of := range map[reflect.Type]reflect.Type{
		reflect.TypeFor[jsonResults]():      reflect.TypeFor[Results](),
		reflect.TypeFor[jsonFigure]():       reflect.TypeFor[Figure](),
		reflect.TypeFor[jsonDistribution](): reflect.TypeFor[Distribution](),
		reflect.TypeFor[jsonSamples]():      reflect.TypeFor[Samples](),
		reflect.TypeFor[jsonCurve]():        reflect.TypeFor[Curve](),
		reflect.TypeFor[jsonLine]():         reflect.TypeFor[Line](),
	} {
		for i := range shadow.NumField() {
			field := shadow.Field(i)
			if field.Anonymous {
				continue
			}
			hidden, found := of.FieldByName(field.Name)
			NewWithT(t).Expect(found).To(BeTrue(), "%s.%s", shadow, field.Name)
			NewWithT(t).Expect(field.Tag).To(Equal(hidden.Tag), "%s.%s", shadow, field.Name)
		}
	}
}

func TestJSONHasNullForWhatIsNoNumber(t *testing.T) {
	g := NewWithT(t)
	odd := []float64{math.NaN(), 1.5, math.Inf(1), math.Inf(-1)}
	r := &Results{}
	r.add("s", "f", "v", "ms", odd...)
	r.spread("d", "ms", "v", odd)
	r.point(Curve{Title: "c"}, "l", math.NaN(), math.Inf(1))
	var back struct {
		Figures       []struct{ Values []*float64 }
		Distributions []struct{ Sets []struct{ Values []*float64 } }
		Curves        []struct {
			Lines []struct{ Points [][2]*float64 }
		}
	}
	g.Expect(json.Unmarshal([]byte(written(t, writeJSON, r)), &back)).To(Succeed())
	value := 1.5
	want := []*float64{nil, &value, nil, nil}
	g.Expect(back.Figures[0].Values).To(Equal(want))
	g.Expect(back.Distributions[0].Sets[0].Values).To(Equal(want))
	g.Expect(back.Curves[0].Lines[0].Points).To(Equal([][2]*float64{{nil, nil}}))
	for name, write := range writers {
		g.Expect(written(t, write, r)).NotTo(MatchRegexp(`\bNaN|Inf\b`), name)
	}
}

func TestJSONHasEmptyLists(t *testing.T) {
	g := NewWithT(t)
	text := written(t, writeJSON, &Results{Figures: []*Figure{{}}, Distributions: []*Distribution{{}}, Curves: []*Curve{{}}})
	g.Expect(text).NotTo(ContainSubstring("null"))
	g.Expect(text).To(ContainSubstring(`"violations": []`))
}

// labels returns those of an axis, with where they are.
func labels(a axis) []string {
	return each(a.Ticks, func(at tick) string { return at.Label + "@" + strconv.FormatFloat(at.At, 'f', -1, 64) })
}

func TestALinearAxisHasNiceTicksFromZero(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   string
	}{
		{nil, "0@0 0.2@200 0.4@400 0.6@600 0.8@800 1@1000"},
		{[]float64{0}, "0@0 0.2@200 0.4@400 0.6@600 0.8@800 1@1000"},
		{[]float64{10000, 1000}, "0@0 2,000@200 4,000@400 6,000@600 8,000@800 10,000@1000"},
		{[]float64{10001}, "0@0 2,000@166.7 4,000@333.3 6,000@500 8,000@666.7 10,000@833.3 12,000@1000"},
		{[]float64{0.3}, "0@0 0.05@166.7 0.1@333.3 0.15@500 0.2@666.7 0.25@833.3 0.3@1000"},
		{[]float64{0.30000000000000004}, "0@0 0.1@333.3 0.2@666.7 0.3@1000"}, // 0.1 + 0.2
		{[]float64{3}, "0@0 0.5@166.7 1@333.3 1.5@500 2@666.7 2.5@833.3 3@1000"},
		{[]float64{-1, 2}, "-1@0 -0.5@166.7 0@333.3 0.5@500 1@666.7 1.5@833.3 2@1000"},
		{[]float64{-30}, "-30@0 -25@166.7 -20@333.3 -15@500 -10@666.7 -5@833.3 0@1000"},
	} {
		NewWithT(t).Expect(strings.Join(labels(linearAxis(c.values, 0, 1000)), " ")).To(Equal(c.want), "%v", c.values)
	}
}

func TestALogarithmicAxisHasTicksAtOneTwoFive(t *testing.T) {
	for _, c := range []struct {
		name   string
		values []float64
		want   string
	}{
		{"none", nil, "1@0 2@301 5@699 10@1000"},
		{"from tick to tick", []float64{10, 1}, "1@0 2@301 5@699 10@1000"},
		{"between ticks", []float64{1.1, 9}, "1@0 2@301 5@699 10@1000"},
		{"not from a power of ten", []float64{0.3, 0.7}, "0.2@0 0.5@569.3 1@1000"},
		{"one value, at a tick", []float64{5}, "2@0 5@569.3 10@1000"},
		{"one value, between ticks", []float64{0.003}, "0.002@0 0.005@1000"},
		{"with a zero", []float64{0, 1, 10}, "0@0 1@90.9 2@364.6 5@726.3 10@1000"},
		{"nothing but zeros", []float64{0}, "0@0 1@90.9 2@364.6 5@726.3 10@1000"},
		{"four decades", []float64{1, 10000}, "1@0 @75.3 @174.7 10@250 @325.3 @424.7 100@500 @575.3 @674.7 1,000@750 @825.3 @924.7 10,000@1000"},
	} {
		NewWithT(t).Expect(strings.Join(labels(logAxis(c.values, 0, 1000)), " ")).To(Equal(c.want), c.name)
	}
	g := NewWithT(t)
	g.Expect(logAxis([]float64{1e-300, 1e300}, 0, 1000).Ticks).To(HaveLen(3*maxDecades + 1))
	a := logAxis([]float64{0, 1, 10}, 0, 1000)
	g.Expect(a.at(0)).To(BeZero())
	g.Expect(a.at(-3)).To(BeZero())
}

func TestADistributionIsDrawnAsSteps(t *testing.T) {
	g := NewWithT(t)
	x, y := logAxis([]float64{1, 10}, 0, 1000), axis{From: 100, To: 0, hi: 1}
	g.Expect(stairs(x, y, []float64{1, 2, 2, 10})).To(Equal("M0 100H0V75H301V25H1000V0"))
	g.Expect(stairs(x, y, []float64{1, 2, 10, math.Inf(1)})).To(Equal("M0 100H0V75H301V50H1000V25"))
	g.Expect(stairs(x, y, nil)).To(BeEmpty())
	g.Expect(stairs(x, y, []float64{math.Inf(1)})).To(BeEmpty())
	var many []float64
	for i := range 100000 {
		many = append(many, 1+9*float64(i)/99999)
	}
	path := stairs(x, y, many)
	g.Expect(path).To(HaveSuffix("H1000V0"))
	g.Expect(strings.Count(path, "H")).To(And(BeNumerically(">", 1000), BeNumerically("<", 4000)))
}

func TestADistributionMarksP50AndP99(t *testing.T) {
	g := NewWithT(t)
	p := distributionPlot(&Distribution{Title: "lag", Unit: "ms", Sets: []Samples{
		{"some", []float64{10, 1, 2, math.NaN()}}, {"lost", []float64{1, math.Inf(1)}}, {"none", nil},
	}})
	g.Expect(p.Series[0].Cells).To(Equal([]string{"3", "2", "10", "10"}))
	g.Expect(p.Series[0].Marks).To(Equal([]plotMark{
		{p.X.at(2), p.Y.at(0.5), "some: p50 2 ms"}, {p.X.at(10), p.Y.at(0.99), "some: p99 10 ms"},
	}))
	g.Expect(p.Series[1].Cells).To(Equal([]string{"2", "1", "∞", "∞"}))
	g.Expect(p.Series[1].Marks).To(HaveLen(1))
	g.Expect(p.Series[2].Cells).To(Equal([]string{"0", "n/a", "n/a", "n/a"}))
	g.Expect(p.Series[2].Marks).To(BeEmpty())
	g.Expect(labels(p.Y)).To(Equal([]string{"0@300", "0.25@233", "0.5@166", "0.75@99", "1@32"}))
	g.Expect(p.Guides).To(Equal([]tick{{166, "p50"}, {34.7, "p99"}}))
}

func TestACurveGoesThroughTheMediansOfRepetitions(t *testing.T) {
	g := NewWithT(t)
	line := Line{"l", [][2]float64{{10, 4}, {0, 1}, {10, 6}, {0, 0}, {10, 10}, {5, math.NaN()}}}
	p := curvePlot(&Curve{Lines: []Line{line}})
	g.Expect(p.Series[0].Path).To(Equal("M72 286.6L720 139.2")) // 0.5 at 0, 6 at 10
	g.Expect(each(p.Series[0].Marks, func(m plotMark) string { return m.Title })).To(Equal(
		[]string{"l: 4 at 10", "l: 1 at 0", "l: 6 at 10", "l: 0 at 0", "l: 10 at 10"}))
	g.Expect(line.Points).To(HaveLen(6))
	g.Expect(line.Points[0]).To(Equal([2]float64{10, 4}))

	crowd := curvePlot(&Curve{Lines: []Line{{"l", make([][2]float64, maxMarks+1)}}})
	g.Expect(crowd.Series[0].Marks).To(BeEmpty())
}

func TestACurveOverMoreThanTwoDecadesIsLogarithmic(t *testing.T) {
	g := NewWithT(t)
	over := func(xs ...float64) plot {
		points := each(xs, func(x float64) [2]float64 { return [2]float64{x, 1} })
		return curvePlot(&Curve{XLabel: "jobs", Lines: []Line{{"a", points[:1]}, {"b", points[1:]}}})
	}
	g.Expect(over(1, 100).X.log).To(BeFalse())
	g.Expect(over(0, 1000, 10000).X.log).To(BeFalse())
	g.Expect(over(0, 0).X.log).To(BeFalse())
	g.Expect(over(1, 50, 200).X.log).To(BeTrue())
	g.Expect(over(0, 1, 10000).X.Ticks[0]).To(Equal(tick{areaLeft, "0"}))
	g.Expect(over(1, 100).XLabel).To(Equal("jobs"))
	g.Expect(over(1, 101).XLabel).To(Equal("jobs, logarithmic"))
}

func TestLinesOfAPictureLookDifferent(t *testing.T) {
	g := NewWithT(t)
	g.Expect(stylesOf([]string{variantFloor, "x", variantManager, "y"})).To(Equal([]string{"c1 d1", "c2 d2", "c0 d0", "c3 d3"}))
	many := each(make([]int, styleCount*styleCount), func(int) string { return "" })
	for i := range many {
		many[i] = strconv.Itoa(i)
	}
	styles := stylesOf(many)
	slices.Sort(styles)
	g.Expect(slices.Compact(styles)).To(HaveLen(len(many)))
	for i := range styleCount {
		g.Expect(pictureHTML).To(ContainSubstring(".c" + strconv.Itoa(i) + " .line"))
		if i > 0 {
			g.Expect(pictureHTML).To(ContainSubstring(".d" + strconv.Itoa(i) + " .line"))
		}
		g.Expect(strings.Count(pictureHTML, "--c"+strconv.Itoa(i)+": #")).To(Equal(2), "in light and in dark")
	}
}

// elements counts the elements of a well-formed document, and gives their text.
func elements(t *testing.T, document string) (count map[string]int, texts []string) {
	t.Helper()
	count = map[string]int{}
	decoder := xml.NewDecoder(strings.NewReader(document))
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return count, texts
		}
		NewWithT(t).Expect(err).NotTo(HaveOccurred())
		switch token := token.(type) {
		case xml.StartElement:
			count[token.Name.Local]++
		case xml.CharData:
			if text := strings.TrimSpace(string(token)); text != "" {
				texts = append(texts, text)
			}
		}
	}
}

func TestThePictureIsOneWellFormedFile(t *testing.T) {
	g := NewWithT(t)
	picture := written(t, writePicture, results())
	count, texts := elements(t, picture)
	g.Expect(count).To(And(HaveKeyWithValue("h2", 2), HaveKeyWithValue("svg", 5), HaveKeyWithValue("circle", 6), HaveKeyWithValue("path", 6)))
	g.Expect(count).NotTo(Or(HaveKey("script"), HaveKey("link"), HaveKey("img")))
	g.Expect(regexp.MustCompile(`(src|href)=|url\(|@import`).FindString(picture)).To(BeEmpty())
	g.Expect(picture).To(ContainSubstring("prefers-color-scheme: dark"))
	for _, text := range []string{"throughput", "65.2", "NOT MET", "requests: 5, must be 4", "status lag", "memory", "heap", "p99", "1,000", "jobs", "MiB"} {
		g.Expect(texts).To(ContainElement(text))
	}
	g.Expect(picture).NotTo(ContainSubstring("ZgotmplZ")) // what the template thinks unsafe
}

func TestNamesAreOnlyNames(t *testing.T) {
	g := NewWithT(t)
	const name = "a<b> & \"c|d\"\n\x1b[2J*e*"
	r := &Results{Machine: Machine{System: name}}
	r.add(name, name, name, name, 1).judge(name, false)
	r.violated(name)
	r.spread(name, name, name, []float64{1, 2})
	r.point(Curve{Title: name, XLabel: name, YLabel: name}, name, 1, 2)

	picture := written(t, writePicture, r)
	count, texts := elements(t, picture)
	g.Expect(count).NotTo(HaveKey("b"))
	g.Expect(texts).To(ContainElement(ContainSubstring(`a<b> & "c|d"`)))

	markdown := written(t, writeMarkdown, r)
	g.Expect(markdown).To(ContainSubstring(`| **a&lt;b> &amp; "c\|d" [2J\*e\*** |`))
	g.Expect(written(t, writeJSON, r)).To(ContainSubstring(`"a<b> & \"c|d\"\n`))
	g.Expect(written(t, writeTable, r)).To(ContainSubstring("\n!!! a<b> & \"c|d\" [2J*e*\n"))
	for _, text := range []string{picture, markdown, written(t, writeTable, r), written(t, writeJSON, r)} {
		g.Expect(text).NotTo(ContainSubstring("\x1b"))
	}
}

func TestNothingMeasuredIsReportedToo(t *testing.T) {
	g := NewWithT(t)
	empty := &Results{}
	bare := &Results{Figures: []*Figure{{}}, Distributions: []*Distribution{{}}, Curves: []*Curve{{}, {Lines: []Line{{}}}}}
	for _, write := range writers {
		written(t, write, empty)
		written(t, write, bare)
	}
	g.Expect(written(t, writeTable, empty)).To(ContainSubstring("goals: nothing was measured\n"))
	g.Expect(written(t, writeTable, empty)).NotTo(ContainSubstring("!!!"))
	elements(t, written(t, writePicture, empty))
	elements(t, written(t, writePicture, bare))
}

// full is a disk without space.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space") }

func TestAReportThatIsNotWrittenIsAnError(t *testing.T) {
	for name, write := range writers {
		NewWithT(t).Expect(write(full{}, results())).To(MatchError("no space"), name)
	}
}
