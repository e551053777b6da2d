package report

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"gatehouse/bench/measure"
)

// Peer is a proxy that took part.
type Peer struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Note    string `json:"note"`
}

// Run is one run of the bench, whole.
type Run struct {
	At        time.Time       `json:"at"`
	Commit    string          `json:"commit"`
	Machine   measure.Machine `json:"machine"`
	LoadAfter string          `json:"load_after"`
	Cores     string          `json:"cores"`
	Peers     []Peer          `json:"peers"`
	Rounds    int             `json:"rounds"`
	Window    time.Duration   `json:"window_ns"`
	Samples   []Sample        `json:"samples"`
	Micro     string          `json:"micro,omitempty"` // what go test -bench printed
}

// Text is the run as Markdown.
func (r Run) Text(works []Work) string {
	var b strings.Builder
	m := r.Machine
	fmt.Fprintf(&b, "Measured %s, commit %s. %s, %d cores usable, %d MiB, %s, Linux %s, %s; %s.\n",
		r.At.Format("2006-01-02 15:04 UTC"), r.Commit, m.Processor, len(m.Cores), m.MemoryMiB, m.System, m.Kernel, m.Go, r.Cores)
	fmt.Fprintf(&b, "Load average before %s, after %s. Medians of %d rounds of %s each.\n\n", m.Load, r.LoadAfter, r.Rounds, r.Window)
	for _, p := range r.Peers {
		fmt.Fprintf(&b, "- **%s** %s: %s\n", p.Name, p.Version, p.Note)
	}
	b.WriteString("\n### What must be seen\n\n" + Bars(works, r.Samples) + "\n" + Markdown(works, r.Samples))
	if r.Micro != "" {
		b.WriteString("### Micro-benchmarks\n\n```\n" + r.Micro + "```\n\n")
	}
	return b.String()
}

// Save writes the run as JSON into dir, under its time.
func (r Run) Save(dir string) (string, error) {
	text, err := json.MarshalIndent(r, "", " ")
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	file := filepath.Join(dir, r.At.Format("20060102-150405")+".json")
	if err == nil {
		err = os.WriteFile(file, append(text, '\n'), 0o644)
	}
	if err != nil {
		return "", fmt.Errorf("save the result: %w", err)
	}
	return file, nil
}

// The marks between which a document holds the newest result.
const (
	startMark = "<!-- results: written by make bench -->\n"
	endMark   = "<!-- end of results -->\n"
)

// Insert puts text between the marks of a document.
func Insert(document, text string) (string, error) {
	before, rest, ok := strings.Cut(document, startMark)
	_, after, closed := strings.Cut(rest, endMark)
	if !ok || !closed {
		return "", fmt.Errorf("the marks %q and %q are missing", strings.TrimSpace(startMark), strings.TrimSpace(endMark))
	}
	return before + startMark + "\n" + strings.TrimRight(text, "\n") + "\n\n" + endMark + after, nil
}
