package filestore

import (
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

// own is the folder of the store's own files, stages a folder in it.
const (
	own    = ".store"
	stages = "stages"
)

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

// revision names a state: when it was written, and how much.
func revision(stamp time.Time, size int) store.Revision {
	return store.Revision(fmt.Sprintf("%x-%x", stamp.UnixNano(), size))
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
	return store.Entry{Key: key, Value: value, Revision: revision(info.ModTime(), len(value))}, nil
}

// stat is the revision of key; zero if there is none.
func (s *Store) stat(key string) (store.Revision, error) {
	info, err := os.Stat(s.path(key))
	if absent(err) || (err == nil && info.IsDir()) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return revision(info.ModTime(), int(info.Size())), nil
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

const (
	newPrefix = "new-"      // of files not in their place yet
	leftOver  = time.Minute // after that nobody is still writing them
)

// newFile writes a new file into a stage, to be put in its place with the
// guard in hand.
func newFile(stage string, value []byte, sync bool) (path string, err error) {
	f, err := os.CreateTemp(stage, newPrefix)
	if err != nil {
		return "", err
	}
	_, err = f.Write(value)
	if err == nil && sync {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

// removeLeftovers removes the stages of those who are not there any more. One
// that is still used is made anew.
func (s *Store) removeLeftovers() {
	for _, pattern := range []string{filepath.Join(stages, "*"), newPrefix + "*"} {
		paths, _ := filepath.Glob(filepath.Join(s.dir, own, pattern)) // the pattern is ours
		for _, path := range paths {
			if info, err := os.Stat(path); err == nil && time.Since(info.ModTime()) > leftOver {
				_ = os.RemoveAll(path) // else the next one to open does
			}
		}
	}
}

// place puts a new file of the turn's stage at path, with the folders it
// needs; made is the highest of those it made, or empty.
func (s *Store) place(t turn, temp, path string) (made string, err error) {
	if err := os.Chtimes(temp, t.stamp, t.stamp); err != nil {
		return "", err
	}
	dir := filepath.Dir(path)
	for missing := dir; missing != s.dir; missing = filepath.Dir(missing) {
		if _, err := os.Stat(missing); err == nil {
			break
		}
		made = missing
	}
	if made != "" {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return made, err
		}
	}
	return made, os.Rename(temp, path)
}

// syncUp syncs dir and the folders above it, up to the one that made is in.
func (s *Store) syncUp(dir, made string) error {
	for {
		if err := syncDir(dir); err != nil && !absent(err) { // removed since
			return err
		}
		if made == "" || dir == s.dir || dir == filepath.Dir(made) {
			return nil
		}
		dir = filepath.Dir(dir)
	}
}

// remove removes key's file and the folders it leaves empty, and says which is
// the lowest that is left. It goes through the turn's stage, too.
func (s *Store) remove(t turn, key string) (left string, err error) {
	path := s.path(key)
	gone := filepath.Join(t.stage, "gone")
	if err := os.Rename(path, gone); err != nil {
		return "", err
	}
	if err := os.Remove(gone); err != nil && !absent(err) {
		return "", err
	}
	left = filepath.Dir(path)
	for left != s.dir && os.Remove(left) == nil {
		left = filepath.Dir(left)
	}
	return left, nil
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
