package main

import (
	"math"
	"slices"
)

// quantile returns the smallest value that at least the share q of all values do not exceed;
// NaN without values.
func quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Clone(values)
	slices.Sort(sorted)
	return sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
}

// median returns the middle of the values; of an even number the mean of the two in the middle.
func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Clone(values)
	slices.Sort(sorted)
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// slope returns the increase of y by x, by least squares; NaN with fewer than two x.
func slope(points [][2]float64) float64 {
	var mx, my, sxx, sxy float64
	for _, p := range points {
		mx, my = mx+p[0]/float64(len(points)), my+p[1]/float64(len(points))
	}
	for _, p := range points {
		sxx, sxy = sxx+(p[0]-mx)*(p[0]-mx), sxy+(p[0]-mx)*(p[1]-my)
	}
	if sxx == 0 {
		return math.NaN()
	}
	return sxy / sxx
}
