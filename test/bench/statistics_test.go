package main

import (
	"math"
	"testing"

	. "github.com/onsi/gomega"
)

func TestAQuantileIsAValueThatWasMeasured(t *testing.T) {
	var hundred []float64
	for i := range 100 {
		hundred = append(hundred, float64(100-i))
	}
	for _, c := range []struct {
		values []float64
		q      float64
		want   float64
	}{
		{[]float64{7}, 0, 7},
		{[]float64{7}, 0.5, 7},
		{[]float64{7}, 1, 7},
		{[]float64{3, 1, 2}, 0.5, 2},
		{[]float64{4, 1, 3, 2}, 0.5, 2},
		{[]float64{4, 1, 3, 2}, 0.51, 3},
		{[]float64{4, 1, 3, 2}, 0.99, 4},
		{hundred, 0, 1},
		{hundred, 0.5, 50},
		{hundred, 0.99, 99},
		{hundred, 0.991, 100},
		{hundred, 1, 100},
		{[]float64{1, math.Inf(1)}, 0.99, math.Inf(1)},
	} {
		NewWithT(t).Expect(quantile(c.values, c.q)).To(Equal(c.want), "quantile %g of %v", c.q, c.values)
	}
}

func TestTheMedianIsInTheMiddle(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{
		{[]float64{7}, 7},
		{[]float64{9, 1}, 5},
		{[]float64{100, 1, 3}, 3},
		{[]float64{100, 4, 1, 3}, 3.5},
	} {
		NewWithT(t).Expect(median(c.values)).To(Equal(c.want), "median of %v", c.values)
	}
}

func TestStatisticsLeaveTheOrderOfTheirValues(t *testing.T) {
	g := NewWithT(t)
	values := []float64{3, 1, 2}
	quantile(values, 0.5)
	median(values)
	g.Expect(values).To(Equal([]float64{3, 1, 2}))
}

func TestASlopeIsThatOfTheClosestLine(t *testing.T) {
	for _, c := range []struct {
		name   string
		points [][2]float64
		want   float64
	}{
		{"on a line", [][2]float64{{0, 1}, {1, 3}, {10, 21}}, 2},
		{"falling", [][2]float64{{0, 8}, {1000, 6}}, -0.002},
		{"level", [][2]float64{{0, 5}, {10, 5}, {20, 5}}, 0},
		{"repeated", [][2]float64{{0, 0}, {0, 2}, {10, 30}, {10, 32}}, 3},
		{"beside a line", [][2]float64{{0, 0}, {1, 2}, {2, 1}, {3, 3}}, 0.8},
	} {
		NewWithT(t).Expect(slope(c.points)).To(BeNumerically("~", c.want, 1e-12), c.name)
	}
}

func TestThereAreNoStatisticsOfNothing(t *testing.T) {
	for name, v := range map[string]float64{
		"quantile":            quantile(nil, 0.5),
		"median":              median(nil),
		"slope":               slope(nil),
		"slope of a point":    slope([][2]float64{{3, 4}}),
		"slope at a single x": slope([][2]float64{{3, 4}, {3, 5}}),
	} {
		NewWithT(t).Expect(math.IsNaN(v)).To(BeTrue(), "%s: %g", name, v)
	}
}
