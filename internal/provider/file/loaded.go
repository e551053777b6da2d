package file

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"

	"gatehouse/internal/config"
)

const (
	maxFile = 16 << 20 // bytes read of one file; the parser refuses more
	// settle bounds how long a file that keeps changing is waited for.
	settle = time.Second
	// held is how long a file whose writer keeps it open, or that is empty,
	// must have been left alone to be looked at.
	held = 2 * time.Second
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
	real     string    // where its path led
	writing  time.Time // when somebody who has not closed it wrote; zero: nobody
	whole    bool      // what is there now is what somebody wanted to be there
	changing *change   // seen different once, not yet twice
}

// stamp tells most changes of a file without reading it.
type stamp struct {
	size     int64
	modified time.Time
}

func stampOf(info fs.FileInfo) stamp { return stamp{info.Size(), info.ModTime()} }

// change is a new state of a file. Unless something says that it is whole, it
// is taken once it has stayed for one look: until then somebody may still be
// writing.
type change struct {
	gone  bool
	stamp stamp
	text  []byte
	err   error
	seen  time.Time // first
	since time.Time // when the file was first seen different from what is loaded
}

// stays is how long it must be there to be believed. A file is empty for as
// long as a busy disk takes to free what it held, and the system tells of that
// only then.
func (c *change) stays() time.Duration {
	if len(c.text) == 0 && !c.gone {
		return held
	}
	return interval
}

// busy says whether somebody is writing the file.
func (f *loaded) busy(now time.Time) bool { return !f.writing.IsZero() && now.Sub(f.writing) < held }

// believe says whether c is to be taken: it is known to be whole, or was there
// at the last look too, or has been changing for too long to wait. An empty
// text may be one that somebody is about to write: only time tells.
func (f *loaded) believe(c change, now time.Time) bool {
	if f.whole && !c.gone && (len(c.text) > 0 || len(f.text) == 0) {
		return true
	}
	before := f.changing
	f.changing = &c
	if before == nil {
		return false
	}
	c.since = before.since
	if before.gone == c.gone && bytes.Equal(before.text, c.text) {
		c.seen = before.seen
	}
	return now.Sub(c.seen) >= c.stays() || len(c.text) > 0 && now.Sub(c.since) >= settle
}

// take makes c what is loaded; its text is not parsed yet.
func (f *loaded) take(c change) {
	f.stamp, f.text = c.stamp, c.text
	f.changing, f.whole, f.writing = nil, false, time.Time{}
}

// fail keeps what was loaded, with a problem. It says whether that is new.
func (f *loaded) fail(path string, err error) bool {
	before := f.problems
	f.stamp, f.changing = stamp{}, nil
	f.problems = []config.Problem{unreadable(path, err)}
	return !slices.Equal(before, f.problems)
}

// read gives the change of a file since it was loaded; nil: none. A file that
// is not listed is gone, whatever stands at its path.
func (f *loaded) read(path string, listed bool, now time.Time) *change {
	if !listed {
		return &change{gone: true, seen: now, since: now}
	}
	info, err := os.Stat(path)
	if err != nil {
		return &change{err: err, gone: errors.Is(err, fs.ErrNotExist), seen: now, since: now}
	}
	if !info.Mode().IsRegular() { // to open a pipe would take until somebody writes to it
		return &change{err: &fs.PathError{Op: "read", Path: path, Err: errors.New("it is no regular file")}, seen: now, since: now}
	}
	at := stampOf(info)
	if at == f.stamp && !f.whole && now.Sub(at.modified) > fresh {
		return nil
	}
	at, text, err := readFile(path)
	if err != nil {
		return &change{err: err, seen: now, since: now}
	}
	if f.text != nil && bytes.Equal(text, f.text) && f.stamp != (stamp{}) {
		f.stamp = at
		return nil
	}
	return &change{stamp: at, text: text, seen: now, since: now}
}

// readFile gives the text of a file, never nil, and the stamp it had before
// the first byte was read: a write under way shows at the next look.
func readFile(path string) (stamp, []byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return stamp{}, nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return stamp{}, nil, err
	}
	text := bytes.NewBuffer(make([]byte, 0, min(info.Size(), maxFile)+bytes.MinRead))
	if _, err := io.Copy(text, io.LimitReader(file, maxFile+1)); err != nil {
		return stamp{}, nil, err
	}
	return stampOf(info), text.Bytes(), nil
}
