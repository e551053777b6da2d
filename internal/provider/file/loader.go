package file

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"runtime"
	"slices"
	"sync"
	"time"

	"gatehouse/internal/config"
	"gatehouse/internal/filewatch"
	"gatehouse/internal/traefik1"
)

// loader keeps what the files say. It looks at the files that events name, at
// those that are not settled, and now and then at all.
type loader struct {
	options Options
	watcher *filewatch.Watcher
	files   map[string]*loaded
	tree    tree
	trouble []config.Problem // of the folder
	blind   error            // why the system does not tell of every change
	began   bool
	all     time.Time         // when to look at everything
	pending []filewatch.Event // came while files were read
}

func newLoader(o Options, w *filewatch.Watcher) *loader {
	return &loader{options: o, watcher: w, files: map[string]*loaded{}}
}

// turn takes in what has changed and says whether anything has.
func (l *loader) turn(events []filewatch.Event) (changed bool) {
	start := time.Now()
	events = append(l.pending, events...)
	l.pending = nil
	due := map[string]bool{}
	everything := l.note(events, due, start) || !start.Before(l.all)
	if everything {
		changed = l.list(due)
	}
	for path, f := range l.files {
		if !f.writing.IsZero() && !f.busy(start) {
			f.writing = time.Time{}
			due[path] = true
		}
		if f.changing != nil {
			due[path] = true
		}
	}
	if l.look(due, start) {
		changed = true
	}
	l.began = true
	if everything {
		every := safety
		if l.blind != nil {
			every = interval
		}
		l.all = start.Add(min(max(every, costFactor*time.Since(start)), safety))
	}
	return changed
}

// next says how long there is nothing to do unless something happens.
func (l *loader) next() time.Duration {
	const least = time.Millisecond
	if l.pending != nil {
		return least
	}
	now := time.Now()
	next := l.all.Sub(now)
	for _, f := range l.files {
		switch {
		case !f.writing.IsZero():
			next = min(next, f.writing.Add(held).Sub(now))
		case f.changing != nil:
			next = min(next, f.changing.seen.Add(f.changing.stays()).Sub(now))
		}
	}
	return max(next, least)
}

// note takes in events: it marks the files they are about, adds those that are
// to be looked at to due, and says whether to look at everything.
func (l *loader) note(events []filewatch.Event, due map[string]bool, now time.Time) (everything bool) {
	for _, e := range events {
		paths, all := l.tree.affected(e)
		everything = everything || all
		for _, path := range paths {
			f, known := l.files[path]
			if !known {
				f = &loaded{real: e.Path}
				l.files[path] = f
			}
			if _, listed := l.tree.files[path]; !listed {
				l.tree.add(path, place{real: e.Path})
			}
			switch e.Op {
			case filewatch.Created, filewatch.Writing:
				f.writing, f.whole, f.changing = now, false, nil
			case filewatch.Whole:
				f.writing, f.whole, f.changing = time.Time{}, true, nil
				due[path] = true
			case filewatch.Touched:
				due[path] = true
			}
		}
	}
	return everything
}

// list finds the files there are, and watches the folders that say so. If the
// folder cannot be read, all stays as it is.
func (l *loader) list(due map[string]bool) (changed bool) {
	var t tree
	var err error
	for range 3 { // what is watched only now may have changed since it was listed
		t, err = plant(l.options)
		fresh, blind := l.watcher.Watch(t.watch)
		l.setBlind(blind)
		if !fresh {
			break
		}
	}
	changed = l.setTrouble(err)
	if err != nil {
		t.files, t.reals = l.tree.files, l.tree.reals
	}
	l.tree = t
	for path, place := range t.files {
		f, known := l.files[path]
		if !known {
			f = &loaded{}
			l.files[path] = f
		}
		if l.began && place.real != f.real && (known || place.link) {
			// Somebody made a link lead elsewhere: that is what shall hold.
			f.whole, f.writing = true, time.Time{}
		}
		f.real = place.real
	}
	for path, f := range l.files {
		if err != nil {
			f.changing = nil
			continue
		}
		due[path] = true
	}
	return changed
}

func (l *loader) setBlind(err error) {
	if l.options.Watch && fmt.Sprint(err) != fmt.Sprint(l.blind) {
		if err != nil {
			l.options.Logger.Info("the system does not tell of all changes of routing files; they are looked at instead", "err", err, "every", interval)
		} else {
			l.options.Logger.Info("the system tells of changes of routing files")
		}
	}
	l.blind = err
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

// look takes in the files that are due and says whether they say anything
// else.
func (l *loader) look(due map[string]bool, now time.Time) (changed bool) {
	found := map[string]*change{}
	for path := range due {
		f := l.files[path]
		if f.busy(now) {
			continue
		}
		_, listed := l.tree.files[path]
		c := f.read(path, listed, now)
		if c == nil {
			f.changing, f.whole = nil, false
			continue
		}
		found[path] = c
	}
	again := l.interrupted(now)
	var texts []string
	for path, c := range found {
		switch f := l.files[path]; {
		case again[path]:
		case c.err != nil && !(c.gone && l.options.Filename == ""):
			changed = f.fail(path, c.err) || changed
		case !(l.old(*c, now) || f.believe(*c, now)):
		case c.gone:
			changed = changed || f.text != nil || f.problems != nil
			delete(l.files, path)
		default:
			f.take(*c)
			texts = append(texts, path)
		}
	}
	l.parse(texts)
	return changed || len(texts) > 0
}

// old says whether c is found at the first look and nobody has just written it.
func (l *loader) old(c change, now time.Time) bool {
	return !l.began && !c.gone && now.Sub(c.stamp.modified) > interval
}

// settled says whether nothing is waited for.
func (l *loader) settled() bool {
	for _, f := range l.files {
		if f.changing != nil || !f.writing.IsZero() {
			return false
		}
	}
	return l.pending == nil
}

// interrupted tells which files somebody has begun to write while they were
// read: what was read of them may be half of it. Whoever writes a file anew
// empties it first, so that the system told of it before there was a half.
func (l *loader) interrupted(now time.Time) map[string]bool {
	l.pending = l.watcher.Pending()
	var files map[string]bool
	for _, e := range l.pending {
		if e.Op != filewatch.Created && e.Op != filewatch.Writing {
			continue
		}
		paths, _ := l.tree.affected(e)
		for _, path := range paths {
			if files == nil {
				files = map[string]bool{}
			}
			files[path] = true
		}
	}
	return files
}

// parse reads the texts of files, several at once.
func (l *loader) parse(paths []string) {
	var wg sync.WaitGroup
	free := make(chan struct{}, runtime.GOMAXPROCS(0))
	panics := make(chan any, len(paths))
	for _, path := range paths {
		f := l.files[path]
		free <- struct{}{}
		wg.Go(func() {
			defer func() {
				if r := recover(); r != nil {
					panics <- r
				}
				<-free
			}()
			routing, problems, ok := l.options.parse(path, f.text)
			f.problems = problems
			if ok {
				f.routing = routing
			}
		})
	}
	wg.Wait()
	select {
	case r := <-panics:
		panic(r) // where somebody waits for it
	default:
	}
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
