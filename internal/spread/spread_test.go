package spread

import (
	"slices"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestOverIsAllOfIt(t *testing.T) {
	for _, n := range []int{0, 1, worth - 1, worth, 10 * worth, 10*worth + 3} {
		list := make([]int, n)
		for i := range list {
			list[i] = i
		}
		if got := slices.Concat(Over(list, slices.Clone)...); !slices.Equal(got, list) {
			t.Errorf("%d items became %d, or others", n, len(got))
		}
	}
}

func TestAPanicComesOut(t *testing.T) {
	defer func() {
		if r := recover(); r != "oh dear" {
			t.Errorf("recovered %v", r)
		}
	}()
	Over(make([]int, 10*worth), func([]int) int { panic("oh dear") })
	t.Error("it went on")
}
