//go:build linux

package filewatch

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second

func do(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func watching(t *testing.T, paths ...string) *Watcher {
	t.Helper()
	w := New(Options{})
	t.Cleanup(w.Close)
	if fresh, err := w.Watch(paths); !fresh || err != nil {
		t.Fatalf("Watch: fresh %v, %v", fresh, err)
	}
	return w
}

// ops writes events as words, repeats once.
func ops(dir string, events []Event) string {
	var words []string
	for _, e := range events {
		rel, _ := filepath.Rel(dir, e.Path)
		word := []string{"lost", "created", "writing", "whole", "touched", "gone"}[e.Op] + " " + rel
		if e.Folder {
			word += "/"
		}
		words = append(words, strings.TrimSpace(word))
	}
	return strings.Join(slices.Compact(words), ", ")
}

func TestWhatIsTold(t *testing.T) {
	for _, c := range []struct {
		want string
		do   func(dir string) error
	}{
		{"created new, writing new, whole new", func(dir string) error { return os.WriteFile(filepath.Join(dir, "new"), []byte("x"), 0o600) }},
		{"writing old, whole old", func(dir string) error { return os.WriteFile(filepath.Join(dir, "old"), []byte("x"), 0o600) }},
		{"writing old", func(dir string) error { return os.Truncate(filepath.Join(dir, "old"), 1) }},
		{"gone old, whole new", func(dir string) error { return os.Rename(filepath.Join(dir, "old"), filepath.Join(dir, "new")) }},
		{"gone old", func(dir string) error { return os.Remove(filepath.Join(dir, "old")) }},
		{"touched old", func(dir string) error { return os.Chmod(filepath.Join(dir, "old"), 0o640) }},
		{"created link", func(dir string) error { return os.Symlink("old", filepath.Join(dir, "link")) }},
		{"created inner/", func(dir string) error { return os.Mkdir(filepath.Join(dir, "inner"), 0o700) }},
		{"lost", func(dir string) error { return os.Rename(dir, dir+"-away") }},
	} {
		t.Run(c.want, func(t *testing.T) {
			dir := t.TempDir()
			do(t, os.WriteFile(filepath.Join(dir, "old"), []byte("old"), 0o600))
			w := watching(t, dir)
			do(t, c.do(dir))
			if got := ops(dir, w.Wait(t.Context(), patience)); got != c.want {
				t.Errorf("told %q, want %q", got, c.want)
			}
			if more := w.Pending(); more != nil {
				t.Errorf("and then %v", more)
			}
		})
	}
}

func TestAFileThroughAnotherName(t *testing.T) {
	dir := t.TempDir()
	path, other := filepath.Join(dir, "one"), filepath.Join(t.TempDir(), "two")
	do(t, os.WriteFile(path, nil, 0o600))
	do(t, os.Link(path, other))
	w := watching(t, path)
	do(t, os.WriteFile(other, []byte("x"), 0o600))
	if got := ops(dir, w.Wait(t.Context(), patience)); got != "writing one, whole one" {
		t.Errorf("told %q", got)
	}
}

func TestWatchIsTheWholeSet(t *testing.T) {
	a, b, missing := t.TempDir(), t.TempDir(), filepath.Join(t.TempDir(), "missing")
	w := watching(t, a)
	if fresh, err := w.Watch([]string{a, a, missing}); fresh || err != nil {
		t.Errorf("the same again: fresh %v, %v", fresh, err)
	}
	if fresh, err := w.Watch([]string{b}); !fresh || err != nil {
		t.Errorf("another: fresh %v, %v", fresh, err)
	}
	do(t, os.WriteFile(filepath.Join(a, "x"), nil, 0o600))
	do(t, os.WriteFile(filepath.Join(b, "y"), nil, 0o600))
	if got := ops(b, w.Wait(t.Context(), patience)); got != "created y, whole y" {
		t.Errorf("told %q", got)
	}
	do(t, os.Remove(filepath.Join(b, "y")))
	do(t, os.Remove(b))
	if got := ops(b, w.Wait(t.Context(), patience)); !strings.Contains(got, "lost") {
		t.Errorf("a folder is removed: told %q", got)
	}
	do(t, os.Mkdir(b, 0o700))
	if fresh, err := w.Watch([]string{b}); !fresh || err != nil {
		t.Errorf("the folder made anew: fresh %v, %v", fresh, err)
	}
}

// TestTooMuch happens while nobody listens: the queue of the kernel is bounded.
func TestTooMuch(t *testing.T) {
	text, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events")
	do(t, err)
	var most int
	_, err = fmt.Sscan(string(text), &most)
	do(t, err)
	if most > 1<<20 {
		t.Skipf("a queue of %d events", most)
	}
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	do(t, os.WriteFile(a, nil, 0o600))
	do(t, os.WriteFile(b, nil, 0o600))
	w := watching(t, dir)
	for range most/2 + 10 {
		do(t, os.Chmod(a, 0o600))
		do(t, os.Chmod(b, 0o600))
	}
	lost := func(e Event) bool { return e.Op == Lost }
	if !slices.ContainsFunc(w.Wait(t.Context(), patience), lost) {
		t.Error("nobody says that something was missed")
	}
}

func TestBounds(t *testing.T) {
	dir := t.TempDir()
	w := New(Options{Most: 1})
	defer w.Close()
	if _, err := w.Watch([]string{dir, t.TempDir()}); err == nil || !strings.Contains(err.Error(), "more than 1") {
		t.Errorf("two of at most one: %v", err)
	}
	off := New(Options{Most: -1})
	defer off.Close()
	if _, err := off.Watch([]string{dir}); err == nil {
		t.Error("watches that are switched off watch")
	}
	if _, err := w.Watch([]string{"/proc"}); err == nil || !strings.Contains(err.Error(), "/proc") {
		t.Errorf("a file system that tells nothing: %v", err)
	}
}

func TestWaitEnds(t *testing.T) {
	for name, w := range map[string]*Watcher{"watching": watching(t, t.TempDir()), "off": New(Options{Most: -1})} {
		if events := w.Wait(t.Context(), time.Millisecond); events != nil {
			t.Errorf("%s: events %v from nothing", name, events)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		start := time.Now()
		if w.Wait(ctx, time.Hour); time.Since(start) > patience {
			t.Errorf("%s: waited on after the end", name)
		}
		cancel()
	}
}

func TestTrace(t *testing.T) {
	root, err := filepath.EvalSymlinks(t.TempDir())
	do(t, err)
	at := func(name string) string { return filepath.Join(root, name) }
	do(t, os.MkdirAll(at("config/..v1"), 0o700))
	do(t, os.WriteFile(at("config/..v1/a"), nil, 0o600))
	do(t, os.WriteFile(at("plain"), nil, 0o600))
	do(t, os.Symlink("..v1", at("config/..data")))
	do(t, os.Symlink("..data/a", at("config/a")))
	do(t, os.Symlink(at("config"), at("absolute")))
	do(t, os.Symlink("loop", at("loop")))
	for path, want := range map[string]Place{
		"plain":              {Real: "plain", Folders: []string{""}},
		"./config/../plain":  {Real: "plain", Folders: []string{""}},
		"config/a":           {Real: "config/..v1/a", Steps: []string{"config/a", "config/..data"}, Folders: []string{"config", "config", "config/..v1"}},
		"absolute/..data/a":  {Real: "config/..v1/a", Steps: []string{"absolute", "config/..data"}, Folders: []string{"", "config", "config/..v1"}},
		"config/none/deeper": {Real: "config/none/deeper", Steps: []string{"config/none"}, Folders: []string{"config"}},
	} {
		got := Trace(root + "/" + path)
		rel := func(list []string) []string {
			var out []string
			for _, p := range list {
				out = append(out, strings.TrimPrefix(strings.TrimPrefix(p, root), "/"))
			}
			return out
		}
		if rel([]string{got.Real})[0] != want.Real || !slices.Equal(rel(got.Steps), want.Steps) || !slices.Equal(rel(got.Folders), want.Folders) {
			t.Errorf("%s: %+v, want %+v", path, got, want)
		}
	}
	if got := Trace(at("loop")); got.Real != at("loop") {
		t.Errorf("a link to itself leads to %s", got.Real)
	}
}
