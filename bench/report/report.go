// Package report turns measured samples into medians, ratios and Markdown. It
// measures nothing itself.
package report

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// Sample is what one contender did in one round of one work.
type Sample struct {
	Work   string             `json:"work"`
	Who    string             `json:"who"`
	Round  int                `json:"round"`
	Values map[string]float64 `json:"values"` // by Column.Key
	Error  string             `json:"error,omitempty"`
}

// Column is one measured value.
type Column struct {
	Key   string
	Title string
	Plain bool // no ratio: a count of what should be none, or a share
}

// Bar is what must be seen: Value of ours at most Times that of Against, or,
// with Against empty, at most Times.
type Bar struct {
	Value   string
	Who     string // ours; empty: the work's first contender
	Against string
	Times   float64
}

// Work describes one table. The contender named first is ours.
type Work struct {
	Name    string
	Title   string
	Columns []Column
	Bars    []Bar
}

// median of a list; NaN for none.
func median(v []float64) float64 {
	if len(v) == 0 {
		return math.NaN()
	}
	v = slices.Sorted(slices.Values(v))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// table is the samples of one work, in the order of the contenders.
type table struct {
	Work
	who    []string
	rounds map[string]map[int]map[string]float64 // who, round
	errors map[string]string
}

func newTable(w Work, samples []Sample) table {
	t := table{Work: w, rounds: map[string]map[int]map[string]float64{}, errors: map[string]string{}}
	for _, s := range samples {
		if s.Work != w.Name {
			continue
		}
		if !slices.Contains(t.who, s.Who) {
			t.who = append(t.who, s.Who)
			t.rounds[s.Who] = map[int]map[string]float64{}
		}
		if s.Error != "" {
			t.errors[s.Who] = s.Error
		}
		if s.Values != nil {
			t.rounds[s.Who][s.Round] = s.Values
		}
	}
	return t
}

// value is the median over the rounds.
func (t table) value(who, key string) float64 {
	var v []float64
	for _, values := range t.rounds[who] {
		if x, ok := values[key]; ok {
			v = append(v, x)
		}
	}
	return median(v)
}

// ratio is the median of the rounds' ratios who to to: what disturbs a round
// disturbs both.
func (t table) ratio(who, to, key string) float64 {
	var v []float64
	for round, values := range t.rounds[who] {
		x, ok := values[key]
		y, both := t.rounds[to][round][key]
		if ok && both && y != 0 {
			v = append(v, x/y)
		}
	}
	return median(v)
}

// Markdown writes a table for each work that has samples.
func Markdown(works []Work, samples []Sample) string {
	var b strings.Builder
	for _, w := range works {
		t := newTable(w, samples)
		if len(t.who) > 0 {
			t.write(&b)
		}
	}
	return b.String()
}

func (t table) write(b *strings.Builder) {
	fmt.Fprintf(b, "### %s: %s\n\n| |", t.Name, t.Title)
	for _, c := range t.Columns {
		fmt.Fprintf(b, " %s |", c.Title)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(t.Columns)) + "\n")
	for _, who := range t.who {
		fmt.Fprintf(b, "| %s |", who)
		for _, c := range t.Columns {
			fmt.Fprintf(b, " %s |", t.cell(who, c))
		}
		b.WriteString("\n")
	}
	for _, who := range t.who {
		if e := t.errors[who]; e != "" {
			fmt.Fprintf(b, "\n%s: %s\n", who, oneLine(e))
		}
	}
	b.WriteString("\n")
}

// oneLine is an error's start and end: it may hold a program's whole output.
func oneLine(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > 700 {
		text = text[:200] + " ... " + text[len(text)-500:]
	}
	return text
}

func (t table) cell(who string, c Column) string {
	v := number(t.value(who, c.Key))
	if c.Plain || who == t.who[0] {
		return v
	}
	r := t.ratio(who, t.who[0], c.Key)
	if math.IsNaN(r) {
		return v
	}
	return v + " (×" + number(r) + ")"
}

// number writes three digits, more where they stand before the point.
func number(v float64) string {
	switch a := math.Abs(v); {
	case math.IsNaN(v):
		return "-"
	case v == math.Trunc(v) || a >= 100:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	case a >= 1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3f", v)
}

// Bars writes what must be seen against what was seen.
func Bars(works []Work, samples []Sample) string {
	var b strings.Builder
	b.WriteString("| work | must be | is | |\n|---|---|---|---|\n")
	for _, w := range works {
		t := newTable(w, samples)
		for _, bar := range w.Bars {
			if len(t.who) > 0 {
				t.writeBar(&b, bar)
			}
		}
	}
	return b.String()
}

func (t table) writeBar(b *strings.Builder, bar Bar) {
	ours := bar.Who
	if ours == "" {
		ours = t.who[0]
	}
	title := bar.Value
	for _, c := range t.Columns {
		if c.Key == bar.Value {
			title = c.Title
		}
	}
	what := fmt.Sprintf("%s ≤ %s", title, number(bar.Times))
	is := t.value(ours, bar.Value)
	if bar.Against != "" {
		what = fmt.Sprintf("%s ≤ %s × %s", title, number(bar.Times), bar.Against)
		is = t.ratio(ours, bar.Against, bar.Value)
	}
	verdict := "met"
	switch {
	case math.IsNaN(is):
		verdict = "not measured"
	case is > bar.Times:
		verdict = "**missed**"
	}
	name := t.Name
	if ours != t.who[0] {
		name += ", " + ours
	}
	fmt.Fprintf(b, "| %s | %s | %s | %s |\n", name, what, number(is), verdict)
}
