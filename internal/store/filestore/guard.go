package filestore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// guard makes changes one after the other, between goroutines and processes,
// and gives each a time of its own. Its file holds two numbers of microseconds:
// the last time given out and the last one whose change is done.
type guard struct {
	file *os.File
	turn chan struct{} // flock is per open file: this is for goroutines
}

// marks is what the guard's file says.
type marks struct{ given, done int64 }

const marksFormat = "%020d %020d\n"

func openGuard(path string) (*guard, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	return &guard{file: f, turn: make(chan struct{}, 1)}, nil
}

func (g *guard) close() error { return g.file.Close() }

// lock waits for the guard. It asks again and again, as waiting in flock
// would not end with ctx.
func (g *guard) lock(ctx context.Context) error {
	select {
	case g.turn <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("wait for the guard: %w", context.Cause(ctx))
	}
	for pause := time.Millisecond; ; pause = min(2*pause, 20*time.Millisecond) {
		err := ctx.Err()
		if err == nil {
			err = flock(g.file)
		}
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			<-g.turn
			return fmt.Errorf("wait for the guard: %w", err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

func (g *guard) unlock() {
	_ = unix.Flock(int(g.file.Fd()), unix.LOCK_UN) // fails only for a closed file
	<-g.turn
}

// flock takes the file's lock if it is free, else EWOULDBLOCK.
func flock(f *os.File) error {
	for {
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != unix.EINTR {
			return err
		}
	}
}

// read may be called without the guard in hand. A file that cannot be
// understood is a new one.
func (g *guard) read() (m marks) {
	buffer := make([]byte, 64)
	n, _ := g.file.ReadAt(buffer, 0)
	if _, err := fmt.Sscanf(string(buffer[:n]), marksFormat, &m.given, &m.done); err != nil {
		return marks{}
	}
	return m
}

func (g *guard) write(m marks) error {
	_, err := g.file.WriteAt(fmt.Appendf(nil, marksFormat, m.given, m.done), 0)
	return err
}

// next gives out a time: now, but always after the last one, whatever the
// clock does.
func (g *guard) next() (time.Time, error) {
	m := g.read()
	m.given = max(time.Now().UnixMicro(), m.given+1)
	return time.UnixMicro(m.given), g.write(m)
}

// done says that what was changed at stamp can be seen.
func (g *guard) done(stamp time.Time) error {
	m := g.read()
	m.done = stamp.UnixMicro()
	return g.write(m)
}
