package filestore

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"gatehouse/internal/store"
)

// own is the folder of the store's own files.
const own = ".store"

func (s *Store) temp() string     { return filepath.Join(s.dir, own, "new") }
func (s *Store) sessions() string { return filepath.Join(s.dir, own, "sessions") }

// path is the file of a key. A segment is its name, but for "%" and a dot at
// the beginning: files with a dot are not ours but an editor's.
func (s *Store) path(key string) string {
	key = strings.ReplaceAll(key, "%", "%25")
	key = strings.ReplaceAll(key, "/.", "/%2E")
	return filepath.Join(s.dir, filepath.FromSlash(key))
}

// keyOf is the key of a file, relative to the store; false if it has none.
func keyOf(path string) (string, bool) {
	key, err := url.PathUnescape(filepath.ToSlash(path))
	return key, err == nil && store.CheckKey(key) == nil
}

// revision names a state: when it was written, and what was.
func revision(stamp time.Time, value []byte) store.Revision {
	sum := sha256.Sum256(value)
	return store.Revision(fmt.Sprintf("%x-%x", stamp.UnixNano(), sum[:8]))
}

// absent says whether err means that there is no such file: also when what
// should be a folder is a file or the other way round.
func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

func (s *Store) read(key string) (store.Entry, error) {
	f, err := os.Open(s.path(key))
	if absent(err) {
		return store.Entry{}, fmt.Errorf("get %s from %s: %w", key, s.dir, store.ErrNotFound)
	}
	if err != nil {
		return store.Entry{}, fmt.Errorf("get %s: %w", key, err)
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return store.Entry{}, fmt.Errorf("get %s: %w", key, err)
	case info.IsDir():
		return store.Entry{}, fmt.Errorf("get %s from %s: %w", key, s.dir, store.ErrNotFound)
	case !info.Mode().IsRegular():
		return store.Entry{}, fmt.Errorf("get %s: %s is no regular file", key, f.Name())
	}
	value, err := io.ReadAll(io.LimitReader(f, store.MaxValue+1))
	if err == nil && len(value) > store.MaxValue {
		err = fmt.Errorf("%s: %w: at most %d bytes are allowed", f.Name(), store.ErrTooLarge, store.MaxValue)
	}
	if err != nil {
		return store.Entry{}, fmt.Errorf("get %s: %w", key, err)
	}
	return store.Entry{Key: key, Value: value, Revision: revision(info.ModTime(), value)}, nil
}

// stampOf is the time of a key's file; zero if there is none.
func (s *Store) stampOf(key string) (time.Time, error) {
	info, err := os.Stat(s.path(key))
	if absent(err) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, err
	}
	return info.ModTime(), nil
}

// write puts a whole new file in the place of key's. The caller has the guard.
func (s *Store) write(key string, value []byte, stamp time.Time) error {
	path := s.path(key)
	if err := s.makeParents(filepath.Dir(path)); err != nil {
		return err
	}
	return s.replace(path, value, stamp)
}

// replace puts a whole new file at path. The caller has the guard, so that
// there is never more than one new file, and one left by who died is
// overwritten.
func (s *Store) replace(path string, value []byte, stamp time.Time) error {
	if err := writeTemp(s.temp(), value, stamp); err != nil {
		return err
	}
	if err := os.Rename(s.temp(), path); err != nil {
		return errors.Join(err, os.Remove(s.temp()))
	}
	return syncDir(filepath.Dir(path))
}

func writeTemp(path string, value []byte, stamp time.Time) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(value); err != nil {
		return err
	}
	if err := os.Chtimes(path, stamp, stamp); err != nil {
		return err
	}
	return f.Sync()
}

// makeParents makes dir and what is missing above it, synced.
func (s *Store) makeParents(dir string) error {
	if err := os.Mkdir(dir, 0o700); err == nil {
		return syncDir(filepath.Dir(dir))
	} else if errors.Is(err, fs.ErrExist) {
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) || dir == s.dir {
		return err
	}
	if err := s.makeParents(filepath.Dir(dir)); err != nil {
		return err
	}
	return s.makeParents(dir)
}

// remove removes key's file and the folders it leaves empty. The caller has
// the guard.
func (s *Store) remove(key string) error {
	path := s.path(key)
	if err := os.Remove(path); err != nil {
		return err
	}
	dir := filepath.Dir(path)
	for dir != s.dir && os.Remove(dir) == nil {
		dir = filepath.Dir(dir)
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
