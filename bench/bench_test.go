package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"gatehouse/bench/report"
	"gatehouse/e2e/rig"
)

// TestMain lets the test's binary be the bench's helpers, as the bench is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == verbLoad || os.Args[1] == verbOrigin) {
		main()
		return
	}
	os.Exit(m.Run())
}

// TestEveryWork runs each work through Gatehouse for a moment. It asserts no
// timing, only that requests were answered and none failed.
func TestEveryWork(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs the product; -short is for unit tests")
	}
	binary := filepath.Join(t.TempDir(), "gatehouse")
	build := exec.Command("go", "build", "-o", binary, "./cmd/gatehouse")
	build.Dir, build.Env = rig.Root(), append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
	defer cancel()
	o := options{rounds: 1, quick: true, warm: 50 * time.Millisecond, window: 200 * time.Millisecond, gatehouse: binary}
	b, err := newBench(ctx, o, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	defer b.close()
	b.peers = b.peers[:1]
	for _, w := range works() {
		t.Run(w.Name, func(t *testing.T) {
			var wrong error
			for range 5 { // on a busy machine nothing may have its turn in so short a window
				if wrong = measured(b.work(w)); wrong == nil {
					return
				}
				t.Log("again:", wrong)
			}
			t.Error(wrong)
		})
	}
}

// measured: each contender answered something, and everything well.
func measured(samples []report.Sample, err error) error {
	if err == nil && len(samples) == 0 {
		err = errors.New("nothing was measured")
	}
	for _, s := range samples {
		if s.Error != "" || s.Values["requests"] < 1 || s.Values["errors"] != 0 {
			err = errors.Join(err, fmt.Errorf("%s: %s %v", s.Who, s.Error, s.Values))
		}
	}
	return err
}

// TestShare: generator and origin stand aside as long as there are four cores.
func TestShare(t *testing.T) {
	for _, c := range []struct {
		all  []int
		want string
	}{
		{[]int{0, 1, 2, 3}, "load generator on core 0, origin on 1, proxy on 2,3"},
		{[]int{4, 5, 6, 7, 8, 9}, "load generator on core 4, origin on 5, proxy on 6,7"},
	} {
		if got := share(c.all).String(); got != c.want {
			t.Errorf("share(%v): %s, want %s", c.all, got, c.want)
		}
	}
	if two := share([]int{0, 1}); len(two.proxy) != 1 || two.load[0] != two.origin[0] {
		t.Errorf("share of two cores: %v", two)
	}
}

func TestBenchmarkLines(t *testing.T) {
	output := "goos: linux\npkg: gatehouse/internal/route\nBenchmarkMatch/10-4 \t 1000 \t 18.2 ns/op\t 0 B/op\nBenchmarkLoad-4 \t 10 \t 9 ns/op\nPASS\n" +
		"ok  \tgatehouse/internal/route\t1.2s\npkg: gatehouse/internal/http1\nPASS\n"
	want := "pkg: gatehouse/internal/route\nBenchmarkMatch/10-4 \t 1000 \t 18.2 ns/op\t 0 B/op\nBenchmarkLoad-4 \t 10 \t 9 ns/op\n"
	if got := benchmarkLines(output); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
