package measure

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Machine is what results must be read with.
type Machine struct {
	Processor string `json:"processor"`
	Cores     []int  `json:"cores"` // those we may use
	Kernel    string `json:"kernel"`
	System    string `json:"system"`
	Go        string `json:"go"`
	MemoryMiB int    `json:"memory_mib"`
	Load      string `json:"load"` // averages over 1, 5 and 15 minutes when it was described
}

// Describe looks at this machine. What cannot be read is left empty.
func Describe() Machine {
	m := Machine{Go: runtime.Version(), Cores: Cores(), Load: Load()}
	m.Processor = valueOf("/proc/cpuinfo", "model name", ":")
	m.System = strings.Trim(valueOf("/etc/os-release", "PRETTY_NAME", "="), `"`)
	kib, _, _ := strings.Cut(valueOf("/proc/meminfo", "MemTotal", ":"), " ")
	n, _ := strconv.Atoi(kib)
	m.MemoryMiB = n >> 10
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = unix.ByteSliceToString(u.Release[:]) + " " + unix.ByteSliceToString(u.Machine[:])
	}
	return m
}

// Load gives the load averages.
func Load() string {
	text, _ := os.ReadFile("/proc/loadavg")
	f := strings.Fields(string(text))
	return strings.Join(f[:min(3, len(f))], " ")
}

func valueOf(file, key, separator string) string {
	text, _ := os.ReadFile(file)
	for line := range strings.Lines(string(text)) {
		name, value, ok := strings.Cut(line, separator)
		if ok && strings.TrimSpace(name) == key {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// Cores lists the processor cores this process may run on.
func Cores() []int {
	var set unix.CPUSet
	if unix.SchedGetaffinity(0, &set) != nil {
		return nil
	}
	var cores []int
	for i := range len(set) * 64 {
		if set.IsSet(i) {
			cores = append(cores, i)
		}
	}
	return cores
}

// List writes cores as taskset reads them: 2,3.
func List(cores []int) string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(cores), " ", ","), "[]")
}
