package filestore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// guard makes changes one after the other, between goroutines and processes,
// and gives each a time of its own. Its file holds two numbers of microseconds,
// the last time given out and the last one whose change is done, and the stage
// of who has or had it.
//
// A process stopped while it has the guard would keep everybody waiting, so it
// is broken after a while: a new file, already locked, takes the place of the
// old one, and then the stage named in the old one is taken away. Every change
// is one rename out of or into the stage of who makes it, so whatever the
// stopped process still wanted to do fails when it goes on. One that had not
// yet written its name finds, after it has, that the file is not in its place.
type guard struct {
	dir   string        // .store
	after time.Duration // when it is broken
	turn  chan struct{} // flock is per open file: this is for goroutines

	// The following belong to who has the turn.
	file  *os.File
	said  string // what the file said when it was last asked for in vain,
	since time.Time
}

// turn is one holding of the guard.
type turn struct {
	stamp time.Time // never used before
	stage string    // the folder all changes go through
}

// marks is what the guard's file says.
type marks struct {
	given, done int64
	stage       string
}

func openGuard(dir string, after time.Duration) (*guard, error) {
	g := &guard{dir: dir, after: after, turn: make(chan struct{}, 1)}
	return g, g.reopen()
}

func (g *guard) path() string { return filepath.Join(g.dir, "guard") }

func (g *guard) reopen() error {
	f, err := os.OpenFile(g.path(), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if g.file != nil {
		_ = g.file.Close()
	}
	g.file = f
	return nil
}

func (g *guard) close() error {
	g.turn <- struct{}{}
	defer func() { <-g.turn }()
	return g.file.Close()
}

// lock waits for the guard. It asks again and again, as waiting in flock
// would not end with ctx.
func (g *guard) lock(ctx context.Context, stage string) (turn, error) {
	select {
	case g.turn <- struct{}{}:
	case <-ctx.Done():
		return turn{}, fmt.Errorf("wait for the guard: %w", context.Cause(ctx))
	}
	for pause := time.Millisecond; ; pause = min(2*pause, 4*time.Millisecond) {
		t, err := g.try(stage)
		if err == nil {
			return t, nil
		}
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			<-g.turn
			return turn{}, fmt.Errorf("wait for the guard: %w", err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// try takes the guard if it is free, else EWOULDBLOCK.
func (g *guard) try(stage string) (turn, error) {
	if there, err := g.inPlace(); err != nil || !there {
		return turn{}, errors.Join(err, g.reopen(), unix.EWOULDBLOCK)
	}
	err := flock(g.file)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = g.breakStuck()
	}
	if err != nil {
		return turn{}, err
	}
	g.said = ""
	m := read(g.file)
	m.given, m.stage = max(time.Now().UnixMicro(), m.given+1), filepath.Base(stage)
	if err := g.write(m); err != nil {
		g.free()
		return turn{}, err
	}
	// Only now is it sure that we are not taken for who had it before.
	if there, err := g.inPlace(); err != nil || !there {
		g.free()
		return turn{}, errors.Join(err, unix.EWOULDBLOCK)
	}
	return turn{time.UnixMicro(m.given), stage}, nil
}

func (g *guard) free() { _ = unix.Flock(int(g.file.Fd()), unix.LOCK_UN) } // fails only for a closed file

func (g *guard) unlock() {
	g.free()
	<-g.turn
}

// inPlace says whether the open file is the guard, and not one it was.
func (g *guard) inPlace() (bool, error) {
	mine, err := g.file.Stat()
	if err != nil {
		return false, err
	}
	there, err := os.Stat(g.path())
	return err == nil && os.SameFile(mine, there), nil
}

// breakStuck breaks the guard if it has been the same holder's for too long,
// and then has it; else EWOULDBLOCK.
func (g *guard) breakStuck() error {
	if said := fmt.Sprint(read(g.file)); said != g.said {
		g.said, g.since = said, time.Now()
	}
	if time.Since(g.since) < g.after {
		return unix.EWOULDBLOCK
	}
	// One at a time breaks it.
	breaker, err := os.OpenFile(filepath.Join(g.dir, "break"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer breaker.Close()
	if err := flock(breaker); err != nil {
		return err
	}
	if there, err := g.inPlace(); err != nil || !there {
		return unix.EWOULDBLOCK // somebody has
	}
	return g.replace()
}

func (g *guard) replace() error {
	f, err := os.CreateTemp(g.dir, newPrefix)
	if err != nil {
		return err
	}
	if err = flock(f); err == nil {
		_, err = f.Write(read(g.file).text())
	}
	if err == nil {
		err = os.Rename(f.Name(), g.path())
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()), f.Close())
	}
	old := g.file
	g.file = f
	defer old.Close()
	stuck := filepath.Join(g.dir, stages, read(old).stage)
	revoked := stuck + ".revoked"
	if err := os.Rename(stuck, revoked); err != nil && !absent(err) {
		g.free()
		return err
	}
	_ = os.RemoveAll(revoked) // else it is left over, see removeLeftovers
	return nil
}

// flock takes the file's lock if it is free, else EWOULDBLOCK.
func flock(f *os.File) error {
	for {
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != unix.EINTR {
			return err
		}
	}
}

const marksFormat = "%020d %020d %s\n"

func (m marks) text() []byte { return fmt.Appendf(nil, marksFormat, m.given, m.done, m.stage) }

// read is what a guard's file says. One that cannot be understood is new.
func read(f *os.File) (m marks) {
	buffer := make([]byte, 128)
	n, _ := f.ReadAt(buffer, 0)
	if _, err := fmt.Sscanf(string(buffer[:n]), marksFormat, &m.given, &m.done, &m.stage); err != nil {
		return marks{}
	}
	return m
}

// look is what the guard says now, for who does not have it.
func (g *guard) look() marks {
	f, err := os.Open(g.path())
	if err != nil {
		return marks{}
	}
	defer f.Close()
	return read(f)
}

func (g *guard) write(m marks) error {
	_, err := g.file.WriteAt(m.text(), 0)
	return err
}

// done says that what was changed at stamp can be seen.
func (g *guard) done(stamp time.Time) error {
	m := read(g.file)
	m.done = stamp.UnixMicro()
	return g.write(m)
}
