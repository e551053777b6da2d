package pressure

import (
	"io/fs"
	"path"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
)

// Memory is what bounds this process: a cgroup, or a limit that a person set by
// GOMEMLIMIT.
type Memory struct {
	Limit  int64  // bytes
	Source string // for people

	root   fs.FS
	folder string // of the cgroup; "": there is none
	v1     bool
}

// goShare is what of the limit Go's collector may let the heap fill, in percent.
const goShare = 90

// FindMemory finds the limit; false where there is none. root is the machine's
// file tree. Unless a person has set GOMEMLIMIT, Go is told to stay below.
func FindMemory(root fs.FS, env func(string) string) (Memory, bool) {
	m, ok := findCgroup(root)
	if env("GOMEMLIMIT") != "" && env("GOMEMLIMIT") != "off" {
		if own := debug.SetMemoryLimit(-1) / goShare * 100; !ok || own < m.Limit {
			return Memory{Limit: own, Source: "GOMEMLIMIT"}, true
		}
	} else if ok {
		debug.SetMemoryLimit(m.Limit / 100 * goShare)
	}
	return m, ok
}

// findCgroup follows /proc/self/cgroup: a line for each controller (version 1)
// or one for all (version 2). The smallest limit on the way to the root holds.
func findCgroup(root fs.FS) (Memory, bool) {
	text, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return Memory{}, false
	}
	var found Memory
	for line := range strings.Lines(string(text)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 {
			continue
		}
		switch {
		case f[1] == "":
			found = smallest(found, below(root, "sys/fs/cgroup", f[2], "memory.max", false))
		case strings.Contains(","+f[1]+",", ",memory,"):
			found = smallest(found, below(root, "sys/fs/cgroup/memory", f[2], "memory.limit_in_bytes", true))
		}
	}
	return found, found.Limit > 0
}

func smallest(a, b Memory) Memory {
	if b.Limit > 0 && (a.Limit == 0 || b.Limit < a.Limit) {
		return b
	}
	return a
}

// noLimit: version 1 says a number of this size where there is none.
const noLimit = 1 << 60

func below(root fs.FS, mount, group, file string, v1 bool) (found Memory) {
	// In a container the group's path may be the host's: the mount itself is
	// ours then, and is looked at last in any case.
	for group = path.Clean("/" + group); ; group = path.Dir(group) {
		folder := path.Join(mount, group)
		if n, ok := readNumber(root, path.Join(folder, file)); ok && n < noLimit {
			found = smallest(found, Memory{Limit: n, Source: "/" + path.Join(folder, file), root: root, folder: folder, v1: v1})
		}
		if group == "/" {
			return found
		}
	}
}

func readNumber(root fs.FS, file string) (int64, bool) {
	text, err := fs.ReadFile(root, file)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	return n, err == nil && n > 0 // "max" is none
}

// Used is what is used of the limit and cannot be given back by itself: what the
// collector would free does not count, nor does the cache of files. One goroutine
// calls it.
func (m Memory) Used() int64 {
	g := readGo()
	used := g.mapped - g.idle - g.garbage
	if m.folder != "" {
		used = max(used, m.charged()-g.idle-g.garbage)
	}
	if g.mapped > m.Limit/100*fullAt {
		used = max(used, g.mapped) // the collector does not keep up
	}
	return used
}

// charged is what the kernel counts for the group, without files.
func (m Memory) charged() int64 {
	current, cache := "memory.current", []string{"inactive_file", "active_file"}
	if m.v1 {
		current, cache = "memory.usage_in_bytes", []string{"total_inactive_file", "total_active_file"}
	}
	n, _ := readNumber(m.root, path.Join(m.folder, current))
	text, err := fs.ReadFile(m.root, path.Join(m.folder, "memory.stat"))
	if err != nil {
		return n
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if name == cache[0] || name == cache[1] {
			if bytes, err := strconv.ParseInt(value, 10, 64); err == nil {
				n -= bytes
			}
		}
	}
	return n
}

// goMemory is what Go has of the system, and what of it is not in use.
type goMemory struct{ mapped, idle, garbage int64 }

func readGo() goMemory {
	s := []metrics.Sample{
		{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"},
		{Name: "/memory/classes/heap/free:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/gc/heap/live:bytes"},
	}
	metrics.Read(s)
	n := func(i int) int64 { return int64(s[i].Value.Uint64()) }
	return goMemory{mapped: n(0) - n(1), idle: n(2), garbage: max(n(3)-n(4), 0)}
}
