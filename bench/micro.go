package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"gatehouse/e2e/rig"
)

// hotPackages have benchmarks of what every request or change costs.
func hotPackages() []string {
	return []string{"http1", "route", "cert", "upstream", "proxy", "middleware", "entrypoint"}
}

const (
	microTime     = "100ms"
	microPatience = 5 * time.Minute
)

// microBenchmarks runs the packages' own benchmarks, briefly, and gives the
// lines they print. A package that does not exist yet is left out.
func microBenchmarks(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, microPatience)
	defer cancel()
	args := []string{"test", "-p", "1", "-run", "^$", "-bench", ".", "-benchmem", "-benchtime", microTime}
	for _, name := range hotPackages() {
		if _, err := os.Stat(filepath.Join(rig.Root(), "internal", name)); err == nil {
			args = append(args, "./internal/"+name)
		}
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = rig.Root()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("run the micro-benchmarks: %w\n%s", err, out)
	}
	return benchmarkLines(string(out)), nil
}

// benchmarkLines keeps the results and the packages they are of.
func benchmarkLines(output string) string {
	var b strings.Builder
	pkg := ""
	for line := range strings.Lines(output) {
		switch {
		case strings.HasPrefix(line, "pkg: "):
			pkg = line
		case strings.HasPrefix(line, "Benchmark") && strings.Contains(line, "ns/op"):
			b.WriteString(pkg + line)
			pkg = ""
		}
	}
	return b.String()
}
