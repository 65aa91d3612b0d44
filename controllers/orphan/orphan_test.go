package orphan

import "testing"

func TestDeletable(t *testing.T) {
	for _, test := range []struct{ orphans, inView, want int }{
		{0, 100, 0}, {1, 1, 1}, {9, 9, 1}, {20, 20, 2}, {5, 100, 5}, {100, 100, 10}, {900, 1000, 50},
	} {
		if got := deletable(test.orphans, test.inView); got != test.want {
			t.Errorf("of %d orphans among %d Jobs %d are deleted, want %d", test.orphans, test.inView, got, test.want)
		}
	}
}
