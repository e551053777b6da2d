package filestore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"gatehouse/internal/store"
)

const (
	aliveSuffix = ".alive" // flocked by the process, and its count
	keysSuffix  = ".keys"  // the keys that go with it: "<microseconds> <key>" lines
)

// Why a session is lost.
var (
	errLate = errors.New("it was not renewed in time")
	errGone = errors.New("its file has gone")
)

// session is one life of this process as the others see it.
type session struct {
	id    string
	alive *os.File
	count uint64
	until time.Time            // from then on it may be taken for dead
	keys  map[string]time.Time // key -> the time of the file that is ours
}

// sighting is the last change of another session's count, by our clock.
type sighting struct {
	said string
	at   time.Time
}

// need returns the session, begun if there is none. The caller has the guard.
func (s *Store) need() (*session, error) {
	s.begin.Do(func() { s.work.Go(s.live) })
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		return nil, errClosed
	}
	if s.session != nil && time.Now().Before(s.session.until) {
		return s.session, nil
	}
	if s.session != nil {
		return nil, fmt.Errorf("%w: session %s was not renewed in time", store.ErrLeaseLost, s.session.id)
	}
	n := &session{id: rand.Text(), keys: map[string]time.Time{}}
	var err error
	if n.alive, err = os.OpenFile(s.sessionFile(n.id, aliveSuffix), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
		return nil, err
	}
	if err = flock(n.alive); err == nil {
		err = n.renew(s)
	}
	if err != nil {
		return nil, errors.Join(err, os.Remove(n.alive.Name()), n.alive.Close())
	}
	s.session = n
	return n, nil
}

func (s *Store) sessionFile(id, suffix string) string {
	return filepath.Join(s.sessions(), id+suffix)
}

// renew counts up. It needs no guard: it is good only if it was done before
// anybody could take the session for dead. The caller holds s.mu.
func (n *session) renew(s *Store) error {
	sent := time.Now()
	n.count++
	if _, err := n.alive.WriteAt(fmt.Appendf(nil, "%020d %v %s\n", n.count, s.ttl, s.name), 0); err != nil {
		return err
	}
	if !n.until.IsZero() && !time.Now().Before(n.until) {
		return errLate
	}
	mine, err := n.alive.Stat()
	if err != nil {
		return err
	}
	if there, err := os.Stat(n.alive.Name()); err != nil || !os.SameFile(mine, there) {
		return errGone
	}
	n.until = sent.Add(s.ttl - store.Margin(s.ttl))
	return nil
}

// own notes that the file of key with this time goes with the session. It is
// written down before the file is: no file is left without a session.
// The caller has the guard.
func (s *Store) own(t turn, n *session, key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	n.keys[key] = t.stamp
	return s.writeKeys(t, n)
}

func (s *Store) disown(t turn, n *session, key string, stamp time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !n.keys[key].Equal(stamp) {
		return nil
	}
	delete(n.keys, key)
	return s.writeKeys(t, n)
}

func (s *Store) writeKeys(t turn, n *session) error {
	var text strings.Builder
	for key, at := range n.keys {
		fmt.Fprintf(&text, "%d %s\n", at.UnixMicro(), key)
	}
	// Not synced: what follows a crash of the machine needs no sessions.
	temp, err := newFile(t.stage, []byte(text.String()), false)
	if err != nil {
		return err
	}
	_, err = s.place(t, temp, s.sessionFile(n.id, keysSuffix))
	return err
}

// readKeys is what writeKeys wrote.
func (s *Store) readKeys(id string) (map[string]time.Time, error) {
	text, err := os.ReadFile(s.sessionFile(id, keysSuffix))
	if err != nil && !absent(err) {
		return nil, err
	}
	keys := map[string]time.Time{}
	for line := range strings.Lines(string(text)) {
		var at int64
		number, key, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if _, err := fmt.Sscan(number, &at); err == nil && store.CheckKey(key) == nil {
			keys[key] = time.UnixMicro(at)
		}
	}
	return keys, nil
}

// live renews the session and buries those of the dead, until Close.
func (s *Store) live() {
	tick := time.NewTicker(min(s.ttl/6, 500*time.Millisecond))
	defer tick.Stop()
	var renewed time.Time
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-tick.C:
		}
		if time.Since(renewed) >= s.ttl/3-s.ttl/12 {
			renewed = time.Now()
			s.renew()
		}
		ctx, cancel := context.WithTimeout(s.ctx, s.ttl/12)
		if err := s.bury(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("dead sessions not removed", "dir", s.dir, "error", err, "next", s.ttl/6)
		}
		cancel()
	}
}

// renew renews the session, or ends it with all its leases.
func (s *Store) renew() {
	s.mu.Lock()
	n := s.session
	if n == nil {
		s.mu.Unlock()
		return
	}
	err := n.renew(s)
	if err == nil {
		for l := range s.leases {
			if l.session == n {
				l.hold.Extend(n.until)
			}
		}
		s.mu.Unlock()
		return
	}
	s.mu.Unlock()
	if time.Now().Before(n.until) && !errors.Is(err, errGone) {
		s.log.Warn("session not renewed", "dir", s.dir, "error", err, "next", s.ttl/3)
		return
	}
	s.log.Warn("session lost, beginning another", "dir", s.dir, "session", n.id, "error", err)
	s.endSession(fmt.Errorf("%w: session %s: %w", store.ErrLeaseLost, n.id, err))
}

// endSession ends the session and its leases, and removes what was its.
func (s *Store) endSession(cause error) {
	s.mu.Lock()
	n := s.session
	s.session = nil
	for l := range s.leases {
		l.hold.End(cause)
	}
	clear(s.leases) // their entries go with the session
	s.mu.Unlock()
	if n == nil {
		return
	}
	_ = n.alive.Close() // and with it the flock: from now on others bury it too
	ctx, cancel := context.WithTimeout(context.Background(), s.ttl)
	defer cancel()
	if err := s.guarded(ctx, func(t turn) error { return s.removeSession(t, n.id) }); err != nil {
		s.log.Warn("ended session not removed, others will", "dir", s.dir, "session", n.id, "error", err)
	}
}

// removeSession removes a session and the keys that go with it. The caller
// has the guard.
func (s *Store) removeSession(t turn, id string) error {
	keys, err := s.readKeys(id)
	if err != nil {
		return err
	}
	for key, stamp := range keys {
		if err := s.removeAt(t, key, stamp); err != nil {
			return err
		}
	}
	for _, suffix := range []string{aliveSuffix, keysSuffix} {
		if err := os.Remove(s.sessionFile(id, suffix)); err != nil && !absent(err) {
			return err
		}
	}
	return nil
}

// bury removes the sessions of the dead. It takes the guard only when there
// is one.
func (s *Store) bury(ctx context.Context) error {
	ids, err := s.others()
	if err != nil {
		return err
	}
	for _, id := range ids {
		if dead, err := s.dead(id); err != nil || !dead {
			continue
		}
		err := s.guarded(ctx, func(t turn) error {
			// Asked again with the guard in hand: it may have counted since.
			if dead, err := s.dead(id); err != nil || !dead {
				return err
			}
			s.log.Info("session of a dead process removed", "dir", s.dir, "session", id)
			return s.removeSession(t, id)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// others lists the sessions that are not ours.
func (s *Store) others() ([]string, error) {
	files, err := os.ReadDir(s.sessions())
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	present := map[string]sighting{}
	var ids []string
	for _, f := range files {
		id, alive := strings.CutSuffix(f.Name(), aliveSuffix)
		if !alive || (s.session != nil && s.session.id == id) {
			continue
		}
		ids = append(ids, id)
		if seen, ok := s.seen[id]; ok {
			present[id] = seen
		}
	}
	s.seen = present
	return ids, nil
}

// dead says whether the process of a session is dead or has been silent for
// its TTL, as far as we have seen.
func (s *Store) dead(id string) (bool, error) {
	f, err := os.OpenFile(s.sessionFile(id, aliveSuffix), os.O_RDWR, 0)
	if err != nil {
		return false, err
	}
	defer f.Close()
	buffer := make([]byte, 1024)
	n, _ := f.ReadAt(buffer, 0)
	said := string(buffer[:n])
	if n > 0 && flock(f) == nil { // n == 0: it is being born
		return true, nil
	}
	var count uint64
	var ttl string
	_, _ = fmt.Sscan(said, &count, &ttl)
	silence, err := time.ParseDuration(ttl)
	if err != nil {
		silence = s.ttl
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	seen, ok := s.seen[id]
	if !ok || seen.said != said {
		s.seen[id] = sighting{said, time.Now()}
		return false, nil
	}
	return time.Since(seen.at) >= silence, nil
}
