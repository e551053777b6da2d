package pressure

import (
	"context"
	"log/slog"
	"os"
	"runtime/debug"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"
)

func TestStep(t *testing.T) {
	for _, c := range []struct {
		now  Level
		used int64
		want Level
	}{
		{Calm, 0, Calm}, {Calm, 84, Calm}, {Calm, 85, Tight}, {Calm, 95, Full}, {Calm, 200, Full},
		{Tight, 84, Tight}, {Tight, 80, Tight}, {Tight, 79, Calm}, {Tight, 95, Full},
		{Full, 94, Full}, {Full, 90, Full}, {Full, 89, Tight}, {Full, 80, Tight}, {Full, 79, Calm},
	} {
		if got := step(c.now, c.used, 100); got != c.want {
			t.Errorf("%v with %d %%: %v, want %v", c.now, c.used, got, c.want)
		}
	}
}

func TestFindCgroup(t *testing.T) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	for name, c := range map[string]struct {
		files   fstest.MapFS
		limit   int64
		source  string
		charged int64
	}{
		"version 2": {fstest.MapFS{
			"proc/self/cgroup":                                            file("0::/system.slice/gatehouse.service\n"),
			"sys/fs/cgroup/system.slice/memory.max":                       file("max\n"),
			"sys/fs/cgroup/system.slice/gatehouse.service/memory.max":     file("1000\n"),
			"sys/fs/cgroup/system.slice/gatehouse.service/memory.current": file("900\n"),
			"sys/fs/cgroup/system.slice/gatehouse.service/memory.stat":    file("anon 500\ninactive_file 100\nactive_file 50\n"),
		}, 1000, "/sys/fs/cgroup/system.slice/gatehouse.service/memory.max", 750},
		"version 2, the parent's is smaller": {fstest.MapFS{
			"proc/self/cgroup":               file("0::/a/b\n"),
			"sys/fs/cgroup/a/memory.max":     file("500\n"),
			"sys/fs/cgroup/a/memory.current": file("300\n"),
			"sys/fs/cgroup/a/b/memory.max":   file("1000\n"),
		}, 500, "/sys/fs/cgroup/a/memory.max", 300},
		"version 2 in a container": {fstest.MapFS{
			"proc/self/cgroup":             file("0::/\n"),
			"sys/fs/cgroup/memory.max":     file("700\n"),
			"sys/fs/cgroup/memory.current": file("10\n"),
		}, 700, "/sys/fs/cgroup/memory.max", 10},
		"version 1, the path is the host's": {fstest.MapFS{
			"proc/self/cgroup":                           file("5:cpu,cpuacct:/x\n4:memory:/docker/abc\n0::/\n"),
			"sys/fs/cgroup/memory/memory.limit_in_bytes": file("800\n"),
			"sys/fs/cgroup/memory/memory.usage_in_bytes": file("600\n"),
			"sys/fs/cgroup/memory/memory.stat":           file("total_inactive_file 100\ninactive_file 7\n"),
		}, 800, "/sys/fs/cgroup/memory/memory.limit_in_bytes", 500},
		"version 1 without a limit": {fstest.MapFS{
			"proc/self/cgroup":                           file("4:memory:/\n"),
			"sys/fs/cgroup/memory/memory.limit_in_bytes": file("9223372036854771712\n"),
		}, 0, "", 0},
		"no cgroup": {fstest.MapFS{}, 0, "", 0},
	} {
		m, ok := findCgroup(c.files)
		if ok != (c.limit > 0) || m.Limit != c.limit || m.Source != c.source {
			t.Errorf("%s: %d by %q", name, m.Limit, m.Source)
		}
		if ok && m.charged() != c.charged {
			t.Errorf("%s: %d are charged, want %d", name, m.charged(), c.charged)
		}
	}
}

// TestFindMemory sets Go's limit, unless a person has.
func TestFindMemory(t *testing.T) {
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(-1))
	root := fstest.MapFS{
		"proc/self/cgroup":         {Data: []byte("0::/\n")},
		"sys/fs/cgroup/memory.max": {Data: []byte("1000000000\n")},
	}
	m, ok := FindMemory(root, func(string) string { return "" })
	if !ok || m.Limit != 1e9 || debug.SetMemoryLimit(-1) != 9e8 {
		t.Errorf("%+v, Go stays below %d", m, debug.SetMemoryLimit(-1))
	}
	debug.SetMemoryLimit(90_000_000)
	m, ok = FindMemory(root, func(string) string { return "90000000" })
	if !ok || m.Limit != 1e8 || m.Source != "GOMEMLIMIT" || debug.SetMemoryLimit(-1) != 9e7 {
		t.Errorf("%+v, Go stays below %d", m, debug.SetMemoryLimit(-1))
	}
}

// TestUsed counts what lives, not what the collector would free.
func TestUsed(t *testing.T) {
	m := Memory{Limit: 1 << 40}
	before := m.Used()
	kept := make([][]byte, 64)
	for i := range kept {
		kept[i] = make([]byte, 1<<20)
	}
	debug.FreeOSMemory()
	if more := m.Used() - before; more < 60<<20 || more > 80<<20 {
		t.Errorf("64 MiB more are counted as %d", more)
	}
	kept[0][0] = 1
	kept = nil
	debug.FreeOSMemory()
	if more := m.Used() - before; more > 8<<20 {
		t.Errorf("what was given back is counted: %d", more)
	}
	_ = kept
}

func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		used := make(chan int64, 1)
		used <- 10
		var told []Level
		last := int64(0)
		w := New(Options{
			Limit: 100, Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
			Changed: func(l Level) { told = append(told, l) },
			Used: func() int64 {
				select {
				case last = <-used:
				default:
				}
				return last
			},
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.Run(ctx) }()
		for _, c := range []struct {
			used int64
			want Level
		}{{90, Tight}, {97, Full}, {92, Full}, {85, Tight}, {10, Calm}} {
			used <- c.used
			time.Sleep(every + time.Millisecond)
			synctest.Wait()
			if w.Level() != c.want {
				t.Errorf("%d %%: %v, want %v", c.used, w.Level(), c.want)
			}
		}
		cancel()
		if err := <-done; err != nil || len(told) != 4 {
			t.Error(err, told)
		}
	})
	if (*Watch)(nil).Level() != Calm {
		t.Error("no watch is not calm")
	}
}
