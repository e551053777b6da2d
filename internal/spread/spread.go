// Package spread does work on all cores that is worth it: the parts of one
// list, each by one goroutine. It knows nothing of the work.
package spread

import (
	"runtime"
	"slices"
	"sync"
)

// worth is how many items are worth a further goroutine.
const worth = 256

// Over calls work for consecutive parts of list, which together are all of it,
// several at once where there is much, and gives the results in the order of
// the parts. It returns when all is done. A panic of work comes out of Over.
func Over[T, R any](list []T, work func(part []T) R) []R {
	workers := min(runtime.GOMAXPROCS(0), 1+len(list)/worth)
	if workers == 1 {
		return []R{work(list)}
	}
	parts := slices.Collect(slices.Chunk(list, (len(list)+workers-1)/workers))
	results := make([]R, len(parts))
	var wg sync.WaitGroup
	var once sync.Once
	var cause any
	for i, part := range parts {
		wg.Go(func() {
			defer func() {
				if r := recover(); r != nil {
					once.Do(func() { cause = r })
				}
			}()
			results[i] = work(part)
		})
	}
	wg.Wait()
	if cause != nil {
		panic(cause)
	}
	return results
}
