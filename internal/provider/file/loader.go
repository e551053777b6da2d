package file

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"gatehouse/internal/config"
	"gatehouse/internal/traefik1"
)

const (
	maxFile  = 16 << 20 // bytes read of one file; the parser refuses more
	maxDepth = 16       // folders within folders
	// settle bounds how long a file that keeps changing is waited for.
	settle = time.Second
	// fresh: a file changed this lately may change again without its time of
	// change showing it, so its text is compared as well.
	fresh = 2 * time.Second
)

// loaded is what is known of one file.
type loaded struct {
	stamp    stamp
	text     []byte
	routing  config.Routing // of the last text that was well formed
	problems []config.Problem
	changing *change // seen different once, not yet twice
}

// stamp tells most changes of a file without reading it.
type stamp struct {
	size     int64
	modified time.Time
}

// change is a new state of a file that is taken once it has stayed for one
// look: until then somebody may still be writing.
type change struct {
	gone  bool
	text  []byte
	since time.Time
}

// loader looks at files.
type loader struct {
	options Options
	files   map[string]*loaded
	trouble []config.Problem // of the folder
	began   bool
}

// look takes in what has changed and says whether anything has.
func (l *loader) look(now time.Time) bool {
	paths, err := l.paths()
	changed := l.setTrouble(err)
	if err == nil {
		for path, f := range l.files {
			if !slices.Contains(paths, path) && f.settled(change{gone: true, since: now}, now) {
				delete(l.files, path)
				changed = true
			}
		}
	}
	for _, path := range paths {
		if l.lookAt(path, now) {
			changed = true
		}
	}
	l.began = true
	return changed
}

func (l *loader) setTrouble(err error) bool {
	var problems []config.Problem
	if err != nil {
		problems = []config.Problem{unreadable(l.options.Directory, err)}
	}
	changed := fmt.Sprint(problems) != fmt.Sprint(l.trouble)
	l.trouble = problems
	return changed
}

func unreadable(path string, err error) config.Problem {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		path, err = pe.Path, pe.Err
	}
	return config.Problem{
		Origin:  config.Origin{Provider: name, Source: path},
		Message: fmt.Sprintf("cannot be read: %v; what it said last stays in force", err),
	}
}

// lookAt takes in one file.
func (l *loader) lookAt(path string, now time.Time) bool {
	f, known := l.files[path]
	if !known {
		f = &loaded{}
	}
	at, text, err := readIfChanged(path, f, now)
	if err != nil {
		if l.options.Filename == "" && errors.Is(err, fs.ErrNotExist) {
			return false // gone since the folder was read
		}
		l.files[path] = f
		f.stamp = stamp{}
		problems := []config.Problem{unreadable(path, err)}
		changed := !slices.Equal(problems, f.problems)
		f.problems = problems
		return changed
	}
	if text == nil {
		f.changing = nil
		return false
	}
	if l.began && !f.settled(change{text: text, since: now}, now) {
		l.files[path] = f
		return false
	}
	l.files[path] = f
	f.stamp, f.text, f.changing = at, text, nil
	routing, problems, ok := l.options.parse(path, text)
	f.problems = problems
	if ok {
		f.routing = routing
	}
	return true
}

// readIfChanged gives the text of a file, nil if it is the one f has.
func readIfChanged(path string, f *loaded, now time.Time) (stamp, []byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return stamp{}, nil, err
	}
	at := stamp{info.Size(), info.ModTime()}
	if at == f.stamp && now.Sub(at.modified) > fresh {
		return at, nil, nil
	}
	file, err := os.Open(path)
	if err != nil {
		return stamp{}, nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return stamp{}, nil, err
	}
	if text == nil {
		text = []byte{}
	}
	if f.text != nil && bytes.Equal(text, f.text) && f.stamp != (stamp{}) {
		f.stamp = at
		return at, nil, nil
	}
	return at, text, nil
}

// settled says whether c was there at the last look too, or has been changing
// for too long to wait.
func (f *loaded) settled(c change, now time.Time) bool {
	before := f.changing
	if before == nil {
		f.changing = &c
		return false
	}
	c.since = before.since
	f.changing = &c
	same := before.gone == c.gone && bytes.Equal(before.text, c.text)
	return same || len(c.text) > 0 && now.Sub(c.since) >= settle // never a file caught empty
}

// routing joins the files in the order of their paths. A name two files
// declare is a problem, and the first file's object is used.
func (l *loader) routing() (config.Routing, []config.Problem) {
	var all config.Routing
	problems := slices.Clone(l.trouble)
	for _, path := range slices.Sorted(maps.Keys(l.files)) {
		f := l.files[path]
		problems = append(problems, f.problems...)
		problems = append(problems, traefik1.Join(&all, f.routing)...)
	}
	return all, problems
}

// paths lists the files to read, sorted.
func (l *loader) paths() ([]string, error) {
	if l.options.Filename != "" {
		return []string{l.options.Filename}, nil
	}
	return list(l.options.Directory, 0)
}

func list(folder string, depth int) ([]string, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, e := range entries {
		path := filepath.Join(folder, e.Name())
		switch {
		case strings.HasPrefix(e.Name(), "."): // hidden; also what a ConfigMap's links lead to
		case e.IsDir() && depth < maxDepth:
			below, err := list(path, depth+1)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
			paths = append(paths, below...)
		case !e.IsDir() && isRoutingFile(path):
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	return paths, nil
}

func isRoutingFile(path string) bool {
	return slices.Contains([]string{".toml", ".yml", ".yaml"}, extension(path))
}

func extension(path string) string { return strings.ToLower(filepath.Ext(path)) }
