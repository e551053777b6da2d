// Package filewatch tells when files and folders change, as the operating
// system tells it (inotify), and follows links to know what to watch. It reads
// no file and believes nothing: what a change means, and when a file is
// whole, is for its callers to judge. Where the system tells nothing (no
// inotify, none left, a network disk) it says so, and callers look themselves.
package filewatch

import (
	"context"
	"time"
)

// Op says what happened.
type Op uint8

// What can happen. A writer that closes its file is the usual proof that the
// file is whole; one that never closes it shows only Writing.
const (
	Lost    Op = iota // something was missed, or a watched path itself went: look at everything, Watch again
	Created           // it is new: a folder, a link, or a file that somebody begins to write
	Writing           // its text changed, its writer has not closed it
	Whole             // its writer closed it, or it was moved here
	Touched           // its rights or times changed
	Gone              // removed, or moved away
)

// Event is a change of a watched path or of an entry of a watched folder.
type Event struct {
	Path   string // a path as given to Watch, or an entry below it; "" where Op is Lost
	Op     Op
	Folder bool // it is a folder
}

// Options of a Watcher.
type Options struct {
	// Most is how many paths are watched at most; 0: 8192, < 0: none, as if
	// the system had no watches.
	Most int
}

const defaultMost = 8192

// gather is how long Wait goes on taking events after the first: what belongs
// together arrives together, and a busy folder wakes nobody more often.
const gather = time.Millisecond

// Watcher is the set of paths watched. Its methods are called from one
// goroutine.
type Watcher struct {
	most int
	sys  system
}

// New makes a Watcher that watches nothing yet. Close it.
func New(o Options) *Watcher {
	if o.Most == 0 {
		o.Most = defaultMost
	}
	return &Watcher{most: o.Most}
}

// Watch makes paths the ones that are watched: of a folder its entries, of a
// file its text, through whatever path it is changed. Paths that do not exist
// are left out. fresh says that some were not watched before, so that changes
// since the caller's last look may be unknown. An error says why not every
// change will be told; those that are told are right nevertheless.
func (w *Watcher) Watch(paths []string) (fresh bool, err error) { return w.sys.watch(paths, w.most) }

// Wait gives the next events, in their order; nil after d, or when ctx ends.
func (w *Watcher) Wait(ctx context.Context, d time.Duration) []Event {
	if !w.sys.on() {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		return nil
	}
	events := w.sys.wait(ctx, d)
	if events == nil {
		return nil
	}
	time.Sleep(gather)
	return append(events, w.Pending()...)
}

// Pending gives the events that are there now; it does not wait.
func (w *Watcher) Pending() []Event {
	if !w.sys.on() {
		return nil
	}
	return w.sys.pending()
}

// Close ends all watches.
func (w *Watcher) Close() { w.sys.close() }
