package e2e

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"gatehouse/e2e/scene"
)

// TestQuietWhileDown: what is away is asked again and again, but not in a
// circle, and told of, but not line after line.
func TestQuietWhileDown(t *testing.T) {
	for name, c := range map[string]struct {
		o     scene.Options
		early func(*scene.Scene) // before the replicas start
		late  func(*scene.Scene) // once they serve
	}{
		"etcd v2":                {late: func(s *scene.Scene) { s.Etcd.Kill() }},
		"etcd v3":                {o: scene.Options{V3: true}, late: func(s *scene.Scene) { s.Etcd.Kill() }},
		"etcd v2 from the start": {early: func(s *scene.Scene) { s.Etcd.Kill() }},
		"etcd v3 from the start": {o: scene.Options{V3: true}, early: func(s *scene.Scene) { s.Etcd.Kill() }},
		"CA":                     {early: func(s *scene.Scene) { s.CA.Kill() }},
		"DNS":                    {early: func(s *scene.Scene) { s.DNS.Kill() }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, c.o)
			if c.early != nil {
				c.early(s)
			}
			if strings.HasSuffix(name, "start") {
				for i := range 3 {
					if err := s.Start(t.Context(), i); err != nil {
						t.Fatal(err)
					}
				}
			} else {
				startAll(t, s)
			}
			if c.late != nil {
				if _, err := s.Served(within(t, time.Minute), scene.Names()...); err != nil {
					t.Fatal(err)
				}
				c.late(s)
			}
			const span = 20 * time.Second
			before := usage(t, s)
			time.Sleep(span)
			after := usage(t, s)
			for i, r := range s.Alive() {
				cpu := after[i].cpu - before[i].cpu
				lines := after[i].lines - before[i].lines
				t.Logf("%s: %.2f%% of a core, %d log lines a minute", r.Name, 100*cpu.Seconds()/span.Seconds(), lines*int(time.Minute/span))
				if cpu > span/10 {
					t.Errorf("%s used %v of CPU in %v", r.Name, cpu, span)
				}
				if lines > 40 {
					t.Errorf("%s wrote %d log lines in %v", r.Name, lines, span)
				}
			}
		})
	}
}

type used struct {
	cpu   time.Duration
	lines int
}

// usage is what each replica has used of the CPU and of its log so far.
func usage(t *testing.T, s *scene.Scene) []used {
	t.Helper()
	var list []used
	for _, r := range s.Alive() {
		log, err := os.ReadFile(r.Log)
		if err != nil {
			t.Fatal(err)
		}
		cpu, err := cpuOf(r.Pid())
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, used{cpu, bytes.Count(log, []byte("\n"))})
	}
	return list
}

// cpuOf reads what a process has used (Linux counts in hundredths of a second).
func cpuOf(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	var ticks int64
	for _, f := range fields[11:13] { // utime and stime
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}
