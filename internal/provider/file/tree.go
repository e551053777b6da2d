package file

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gatehouse/internal/filewatch"
)

const maxDepth = 16 // folders within folders

// tree is which files there are to read, and what decides that.
type tree struct {
	files   map[string]place    // by the paths they are called by
	reals   map[string][]string // paths without links, and those called by them
	folders map[string]string   // the same of folders whose entries may be files to read
	steps   map[string]bool     // entries, such as links, that lead paths elsewhere when they change
	watch   []string
}

// place is where a path leads.
type place struct {
	real string
	link bool
}

// plant looks which files there are. With an error it holds what to watch.
func plant(o Options) (tree, error) {
	t := tree{files: map[string]place{}, reals: map[string][]string{}, folders: map[string]string{}, steps: map[string]bool{}}
	if o.Filename != "" {
		t.link(o.Filename)
		// Also the file itself: mounted alone, it is changed elsewhere.
		t.watch = append(t.watch, t.files[o.Filename].real)
		return t, nil
	}
	err := t.folder(o.Directory, t.follow(o.Directory), 0)
	return t, err
}

// follow traces path and watches what decides where it leads.
func (t *tree) follow(path string) (real string) {
	p := filewatch.Trace(path)
	for _, step := range p.Steps {
		t.steps[step] = true
	}
	t.watch = append(t.watch, p.Folders...)
	return p.Real
}

func (t *tree) link(path string) { t.add(path, place{real: t.follow(path), link: true}) }

func (t *tree) add(path string, p place) {
	t.files[path] = p
	t.reals[p.real] = append(t.reals[p.real], path)
}

func (t *tree) folder(path, real string, depth int) error {
	t.folders[real] = path
	t.watch = append(t.watch, real)
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		inner := filepath.Join(path, name)
		switch {
		case strings.HasPrefix(name, "."): // hidden; also what a ConfigMap's links lead to
		case e.IsDir() && depth < maxDepth:
			if err := t.folder(inner, filepath.Join(real, name), depth+1); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		case e.IsDir() || !isRoutingFile(name):
		case e.Type()&os.ModeSymlink != 0:
			t.link(inner)
		default:
			t.add(inner, place{real: filepath.Join(real, name)})
		}
	}
	return nil
}

// affected tells which files an event is about, and whether it may have
// changed which there are.
func (t *tree) affected(e filewatch.Event) (paths []string, everything bool) {
	everything = e.Op == filewatch.Lost || t.steps[e.Path]
	base := filepath.Base(e.Path)
	folder, listed := t.folders[filepath.Dir(e.Path)]
	listed = listed && !strings.HasPrefix(base, ".")
	if e.Folder {
		_, itself := t.folders[e.Path]
		return nil, everything || listed || itself
	}
	paths = t.reals[e.Path]
	if paths == nil && listed && isRoutingFile(base) {
		paths = []string{filepath.Join(folder, base)}
	}
	if paths == nil {
		return nil, everything
	}
	switch e.Op {
	case filewatch.Gone:
		return nil, true
	case filewatch.Created, filewatch.Whole:
		if info, err := os.Lstat(e.Path); err != nil || !info.Mode().IsRegular() {
			return nil, true
		}
	}
	return paths, everything
}

func isRoutingFile(path string) bool {
	return slices.Contains([]string{".toml", ".yml", ".yaml"}, extension(path))
}

func extension(path string) string { return strings.ToLower(filepath.Ext(path)) }
