package pemfile

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"gatehouse/internal/filewatch"
)

const (
	// calm is how long nothing must have happened to files for them to be read:
	// a certificate and its key are written one after the other.
	calm = 50 * time.Millisecond
	// held is the same for a file that somebody who writes it has open.
	held = 500 * time.Millisecond
	// settle bounds waiting for files to be left alone.
	settle = 700 * time.Millisecond
	// tries bounds reading again what changes while it is read.
	tries = 3
	// blindly is how often files are looked at of which the system tells
	// nothing, safely how often the others.
	blindly = 250 * time.Millisecond
	safely  = 5 * time.Second
	// fresh: a file changed this lately may change again without its time of
	// change showing it.
	fresh = 2 * time.Second
	// costFactor: looking costs at most a hundredth of the time between looks.
	costFactor = 100
)

// follower is what Run knows.
type follower struct {
	*Files
	watcher *filewatch.Watcher
	about   map[string][]item    // what is read, by the entries of folders whose changes matter to it
	due     map[item]bool        // to be read whatever it looks like
	writing map[string]time.Time // what somebody has open, and when that was told last
	cost    time.Duration        // of the last look
	hasty   bool                 // something has happened just now
	blind   error                // why the system does not tell of every change
}

// Run reads files again when they change, until ctx ends, and tells changed
// that a new reading gives something else. It calls changed from one goroutine.
func (f *Files) Run(ctx context.Context, changed func()) error {
	l := &follower{Files: f, watcher: filewatch.New(f.o.Watches), due: map[item]bool{}, writing: map[string]time.Time{}}
	defer l.watcher.Close()
	for ctx.Err() == nil {
		turn, cancel := context.WithCancel(ctx)
		f.mu.Lock()
		f.wake = cancel
		items := slices.Collect(maps.Keys(f.items))
		f.mu.Unlock()
		l.watch(items)
		l.quiet(turn)
		if l.look(ctx, items) {
			changed()
		}
		every := safely
		if l.blind != nil {
			every = blindly
		}
		l.wait(turn, time.Now().Add(min(max(every, costFactor*l.cost), safely)))
		cancel()
	}
	return nil
}

// watch asks the system for what decides what is read.
func (l *follower) watch(items []item) {
	l.about = map[string][]item{}
	var paths []string
	for _, i := range items {
		for _, path := range i.paths() {
			p := filewatch.Trace(path)
			for _, entry := range append(p.Steps, p.Real) {
				l.about[entry] = append(l.about[entry], i)
			}
			// Also the file itself: mounted alone, it is changed elsewhere.
			paths = append(append(paths, p.Folders...), p.Real)
		}
	}
	unknown, blind := l.watcher.Watch(paths)
	if fmt.Sprint(blind) != fmt.Sprint(l.blind) && blind != nil {
		l.o.Logger.Info("the system does not tell of all changes of certificate files; they are looked at instead", "err", blind, "every", blindly)
	}
	l.blind = blind
	if unknown || blind != nil {
		l.suspect(items)
	}
}

// suspect takes files that changed just now for being written: nobody told.
func (l *follower) suspect(items []item) {
	for _, i := range items {
		l.mu.Lock()
		c := l.items[i]
		l.mu.Unlock()
		if c == nil {
			continue
		}
		for _, path := range i.paths() {
			now, err := os.Stat(path)
			if err == nil && time.Since(now.ModTime()) < held && !unchanged(c.infos[path], now) {
				l.writing[path] = now.ModTime()
			}
		}
	}
}

// wait returns when something happens to the files, or at end, or when ctx ends.
func (l *follower) wait(ctx context.Context, end time.Time) {
	for ctx.Err() == nil {
		left := time.Until(end)
		if left <= 0 {
			return
		}
		events := l.watcher.Wait(ctx, left)
		if l.note(events) {
			l.hasty = true
			return
		}
		if len(events) > 0 { // of something else, such as a log that is written there
			select {
			case <-ctx.Done():
			case <-time.After(calm):
			}
		}
	}
}

// quiet waits, if something happened, until the files are left alone, though not
// for ever.
func (l *follower) quiet(ctx context.Context) {
	if !l.hasty && len(l.writing) == 0 {
		return
	}
	l.hasty = false
	for end := time.Now().Add(settle); ctx.Err() == nil && time.Now().Before(end); {
		happened := l.note(l.watcher.Wait(ctx, calm))
		for path, at := range l.writing {
			if time.Since(at) > held {
				delete(l.writing, path)
			}
		}
		if !happened && len(l.writing) == 0 {
			return
		}
	}
}

// note takes in events and says whether they are about what is read.
func (l *follower) note(events []filewatch.Event) (about bool) {
	for _, e := range events {
		if e.Op == filewatch.Lost {
			about = true
			continue
		}
		items := l.about[e.Path]
		if items == nil {
			continue
		}
		about = true
		for _, i := range items {
			l.due[i] = true
		}
		switch e.Op {
		case filewatch.Writing:
			l.writing[e.Path] = time.Now()
		case filewatch.Whole, filewatch.Gone:
			delete(l.writing, e.Path)
		}
	}
	return about
}

// look reads the files that have changed and says whether they say anything
// else. What changes while it is read is read again, unless that never ends.
func (l *follower) look(ctx context.Context, items []item) (changed bool) {
	for try := 1; ctx.Err() == nil; try++ {
		start := time.Now()
		due, read := l.due, map[item]*content{}
		l.due = map[item]bool{}
		for _, i := range items {
			l.mu.Lock()
			c := l.items[i]
			l.mu.Unlock()
			if c == nil || !due[i] && c.same(i) {
				continue
			}
			again := *c
			if again.load(i) {
				changed = true
			}
			read[i] = &again
		}
		l.cost = time.Since(start)
		if l.note(l.watcher.Pending()) && try < tries {
			changed = false
			maps.Copy(l.due, due)
			l.hasty = true
			l.quiet(ctx)
			continue
		}
		l.take(read)
		return changed
	}
	return false
}

func (l *follower) take(read map[item]*content) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, c := range read {
		before := l.items[i]
		if before == nil {
			continue
		}
		if c.err == nil && (before.err != nil || before.chain != c.chain || before.key != c.key) {
			l.o.Logger.Info("certificate file read again", "file", name(i.chain), "ends", c.ends)
		}
		l.items[i] = c
	}
}
