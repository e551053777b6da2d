package filewatch

import (
	"os"
	"path/filepath"
	"strings"
)

// maxLinks is how many links one path may lead through, as in Linux.
const maxLinks = 40

// Place is where a path leads.
type Place struct {
	// Real is the path without links; where something on the way does not
	// exist, the path it would have.
	Real string
	// Steps are the entries that decide it: links, and what is missing. A
	// change of one of them may lead the path elsewhere.
	Steps []string
	// Folders are those Real and Steps stand in, as far as they exist: what to
	// watch.
	Folders []string
}

// Trace follows path through its links.
func Trace(path string) Place {
	var p Place
	at := string(filepath.Separator)
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	if volume := filepath.VolumeName(path); volume != "" {
		at, path = volume+at, path[len(volume):]
	}
	rest := split(path)
	for links := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		if name == ".." {
			at = filepath.Dir(at)
			continue
		}
		next := filepath.Join(at, name)
		info, err := os.Lstat(next)
		if err != nil {
			p.step(at, next)
			p.Real = filepath.Join(append([]string{next}, rest...)...)
			return p
		}
		if info.Mode()&os.ModeSymlink == 0 {
			at = next
			continue
		}
		p.step(at, next)
		target, err := os.Readlink(next)
		if links++; err != nil || links > maxLinks {
			p.Real = next
			return p
		}
		if filepath.IsAbs(target) {
			at = filepath.VolumeName(at) + string(filepath.Separator)
		}
		rest = append(split(target), rest...)
	}
	p.Real = at
	p.Folders = append(p.Folders, filepath.Dir(at))
	return p
}

func (p *Place) step(folder, entry string) {
	p.Folders = append(p.Folders, folder)
	p.Steps = append(p.Steps, entry)
}

func split(path string) []string {
	var parts []string
	for part := range strings.SplitSeq(filepath.ToSlash(path), "/") {
		if part != "" && part != "." {
			parts = append(parts, part)
		}
	}
	return parts
}
