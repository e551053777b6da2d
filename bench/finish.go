package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"gatehouse/bench/report"
	"gatehouse/e2e/rig"
)

// finish prints what must be seen, and writes what was.
func (b *bench) finish(chosen []work, r report.Run) error {
	var tables []report.Work
	for _, w := range chosen {
		tables = append(tables, w.Work)
	}
	r.Commit = commit()
	fmt.Fprint(b.out, "\n"+report.Bars(tables, r.Samples)+"\n")
	if b.o.micro {
		var err error
		if r.Micro, err = microBenchmarks(b.ctx); err != nil {
			fmt.Fprintln(b.out, err)
		}
		fmt.Fprint(b.out, r.Micro)
	}
	file, err := r.Save(b.o.results)
	if err != nil {
		return err
	}
	fmt.Fprintln(b.out, "saved:", file)
	if !b.o.write {
		return nil
	}
	return document(r.Text(tables))
}

func document(text string) error {
	file := filepath.Join(rig.Root(), "docs/performance.md")
	old, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	whole, err := report.Insert(string(old), text)
	if err != nil {
		return fmt.Errorf("write the result into %s: %w", file, err)
	}
	return os.WriteFile(file, []byte(whole), 0o644)
}

// commit names what was measured.
func commit() string {
	cmd := exec.Command("git", "describe", "--always", "--dirty")
	cmd.Dir = rig.Root()
	out, err := cmd.Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}
