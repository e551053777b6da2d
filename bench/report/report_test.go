package report

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func sample(who string, round int, cpu, errors float64) Sample {
	return Sample{Work: "h1", Who: who, Round: round, Values: map[string]float64{"cpu": cpu, "errors": errors}}
}

var h1 = Work{
	Name: "h1", Title: "plain",
	Columns: []Column{{Key: "cpu", Title: "CPU"}, {Key: "errors", Title: "errors", Plain: true}},
	Bars:    []Bar{{Value: "cpu", Against: "nginx", Times: 1}, {Value: "cpu", Against: "caddy", Times: 1}, {Value: "errors", Times: 0}},
}

func TestTables(t *testing.T) {
	samples := []Sample{
		sample("ours", 0, 2, 0), sample("ours", 1, 4, 0), sample("ours", 2, 1, 3),
		sample("nginx", 0, 4, 0), sample("nginx", 1, 4, 0), sample("nginx", 2, 1.5, 0),
		{Work: "h1", Who: "caddy", Error: "caddy ended:\nno port"},
	}
	want := `### h1: plain

| | CPU | errors |
|---|---|---|
| ours | 2 | 0 |
| nginx | 4 (×1.50) | 0 |
| caddy | - | - |

caddy: caddy ended: no port

`
	if diff := cmp.Diff(want, Markdown([]Work{h1, {Name: "other"}}, samples)); diff != "" {
		t.Errorf("tables (-want +got):\n%s", diff)
	}
	want = `| work | must be | is | |
|---|---|---|---|
| h1 | CPU ≤ 1 × nginx | 0.667 | met |
| h1 | CPU ≤ 1 × caddy | - | not measured |
| h1 | errors ≤ 0 | 0 | met |
`
	if diff := cmp.Diff(want, Bars([]Work{h1}, samples)); diff != "" {
		t.Errorf("bars (-want +got):\n%s", diff)
	}
	samples[0].Values["cpu"], samples[1].Values["cpu"] = 40, 40
	if got := Bars([]Work{h1}, samples); !strings.Contains(got, "| 10 | **missed** |") {
		t.Errorf("a bar ten times missed: %s", got)
	}
}

func TestInsert(t *testing.T) {
	document := "# Before\n" + startMark + "old\n" + endMark + "after\n"
	got, err := Insert(document, "new\n\n")
	if want := "# Before\n" + startMark + "\nnew\n\n" + endMark + "after\n"; err != nil || got != want {
		t.Errorf("Insert: %v\n%s", err, cmp.Diff(want, got))
	}
	again, err := Insert(got, "new\n\n")
	if err != nil || again != got {
		t.Errorf("a second time: %v\n%s", err, cmp.Diff(got, again))
	}
	if _, err := Insert("no marks", "new"); err == nil {
		t.Error("a document without marks is no error")
	}
}
