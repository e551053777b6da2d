package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"unicode/utf8"
)

// Bounds of a configuration file. They keep a mistaken file (a log, a disk
// image) from being taken for configuration; no real one comes near.
const (
	maxFileSize = 16 << 20
	maxDepth    = 64
	maxParts    = 4 << 20 // nodes, aliases counted as what they stand for
)

// ParseFile reads and parses one file by its extension: .yml and .yaml are
// YAML, everything else is TOML. A file that cannot be read is a Problem, and
// the Node is nil. With any problem that is not a warning the Node holds what
// could be read, for further checks only.
func ParseFile(path string) (*Node, []Problem) {
	text, err := readBounded(path)
	if err != nil {
		return nil, []Problem{{
			Origin:  Origin{Provider: "file", Source: path},
			Message: "cannot be read: " + reason(err),
		}}
	}
	switch strings.ToLower(filepath.Ext(path)) {
	case ".yml", ".yaml":
		return ParseYAML(path, text)
	}
	return ParseTOML(path, text)
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if err != nil {
		return nil, err
	}
	return text, nil // one over the limit: the parser refuses it
}

// reason is an error without the path, which the problem names already.
func reason(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}

// positions turns offsets into lines and columns.
type positions struct {
	source string
	lines  []int // offset of each line's first byte
	size   int
	last   int // line found last, from 0: the next is seldom far
}

func newPositions(source string, text []byte) positions {
	p := positions{source: source, lines: make([]int, 1, 1+bytes.Count(text, []byte{'\n'})), size: len(text)}
	for i, c := range text {
		if c == '\n' {
			p.lines = append(p.lines, i+1)
		}
	}
	return p
}

func (p *positions) at(offset int, key string) Origin {
	offset = min(max(offset, 0), p.size)
	line := p.lineOf(offset)
	return Origin{
		Provider: "file",
		Source:   p.source,
		Line:     line,
		Column:   offset - p.lines[line-1] + 1,
		Key:      key,
	}
}

// lineOf gives the line, from 1, that an offset is in.
func (p *positions) lineOf(offset int) int {
	for i := p.last; i < min(p.last+4, len(p.lines)) && p.lines[i] <= offset; i++ {
		if i+1 == len(p.lines) || p.lines[i+1] > offset {
			p.last = i
			return i + 1
		}
	}
	line := sort.SearchInts(p.lines, offset+1)
	p.last = line - 1
	return line
}

// checkText refuses what cannot be a configuration file at all.
func checkText(source string, text []byte) []Problem {
	origin := Origin{Provider: "file", Source: source}
	if len(text) > maxFileSize {
		return []Problem{{Origin: origin, Message: "file too large", Allowed: fmt.Sprintf("at most %d MiB", maxFileSize>>20)}}
	}
	if !utf8.Valid(text) {
		at := 0
		for at < len(text) {
			r, size := utf8.DecodeRune(text[at:])
			if r == utf8.RuneError && size == 1 {
				break
			}
			at += size
		}
		pos := newPositions(source, text)
		return []Problem{{Origin: pos.at(at, ""), Message: "not UTF-8 text"}}
	}
	return nil
}

// joinKey makes a dotted key.
func joinKey(parent, name string) string {
	if parent == "" {
		return name
	}
	return parent + "." + name
}
