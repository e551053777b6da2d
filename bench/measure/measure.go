// Package measure reads what processes cost from /proc, and describes the
// machine. Linux only.
package measure

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// clockTicks per second of /proc/<pid>/stat: USER_HZ, 100 on every Linux.
const clockTicks = 100

// Tree gives a process and all below it.
func Tree(root int) ([]int, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	children := map[int][]int{}
	for _, file := range stats {
		f, err := fields(file)
		if err != nil {
			continue // it has ended
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		parent, _ := strconv.Atoi(f[1])
		children[parent] = append(children[parent], pid)
	}
	tree := []int{root}
	for i := 0; i < len(tree); i++ {
		tree = append(tree, children[tree[i]]...)
	}
	slices.Sort(tree)
	return tree, nil
}

// fields of a stat file from the state on: the name before may hold spaces.
func fields(file string) ([]string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	_, rest, ok := bytes.Cut(text[bytes.LastIndexByte(text, ')'):], []byte(" "))
	f := strings.Fields(string(rest))
	if !ok || len(f) < 13 {
		return nil, fmt.Errorf("%s: %q is no process status", file, text)
	}
	return f, nil
}

// CPU gives the user and system seconds the processes have used, those of
// their ended threads included.
func CPU(pids []int) (float64, error) {
	ticks := 0
	for _, pid := range pids {
		f, err := fields(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return 0, fmt.Errorf("read the CPU time of process %d: %w", pid, err)
		}
		user, _ := strconv.Atoi(f[11])
		system, _ := strconv.Atoi(f[12])
		ticks += user + system
	}
	return float64(ticks) / clockTicks, nil
}

// PSS gives the memory of the processes in bytes, what they share counted
// once.
func PSS(pids []int) (int64, error) {
	var total int64
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			return 0, fmt.Errorf("read the memory of process %d: %w", pid, err)
		}
		for line := range strings.Lines(string(text)) {
			if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
				n, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
				kib, _ := strconv.ParseInt(n, 10, 64)
				total += kib << 10
			}
		}
	}
	return total, nil
}
