package filewatch

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// mask is what is asked of every path. Moves and removals of the path itself
// come as Lost.
const mask = unix.IN_CREATE | unix.IN_MODIFY | unix.IN_CLOSE_WRITE | unix.IN_ATTRIB | unix.IN_DELETE |
	unix.IN_MOVED_FROM | unix.IN_MOVED_TO | unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_EXCL_UNLINK

// local are the file systems (statfs(2)) on which every change passes through
// this kernel. On others, changes made elsewhere are not told.
var local = [...]uint32{
	unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.TMPFS_MAGIC, unix.RAMFS_MAGIC,
	unix.OVERLAYFS_SUPER_MAGIC, unix.F2FS_SUPER_MAGIC, unix.REISERFS_SUPER_MAGIC, unix.MSDOS_SUPER_MAGIC,
	unix.EXFAT_SUPER_MAGIC, unix.SQUASHFS_MAGIC, unix.EROFS_SUPER_MAGIC_V1, unix.BCACHEFS_SUPER_MAGIC,
	0x2fc12fc1, // zfs
	0x3153464a, // jfs
}

// system is one inotify queue (inotify(7)).
type system struct {
	queue  *os.File // nil: none is open
	fd     int
	byPath map[string]int32   // watch of each path
	paths  map[int32][]string // several paths may lead to one thing
	buf    []byte
}

func (s *system) on() bool { return s.queue != nil }

func (s *system) open() error {
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		return fmt.Errorf("open an inotify queue: %w", err)
	}
	*s = system{
		queue: os.NewFile(uintptr(fd), "inotify"), fd: fd,
		byPath: map[string]int32{}, paths: map[int32][]string{}, buf: make([]byte, 64<<10),
	}
	return nil
}

func (s *system) close() {
	if s.queue != nil {
		s.queue.Close()
		s.queue = nil
	}
}

func (s *system) watch(paths []string, most int) (fresh bool, err error) {
	if most < 0 {
		return false, errors.New("watches are switched off")
	}
	if s.queue == nil {
		if err := s.open(); err != nil {
			return false, err
		}
	}
	before := s.byPath
	s.byPath, s.paths = make(map[string]int32, len(paths)), make(map[int32][]string, len(paths))
	for _, path := range paths {
		if _, twice := s.byPath[path]; twice {
			continue
		}
		if len(s.byPath) == most {
			err = cmpErr(err, fmt.Errorf("watch %s: more than %d folders", path, most))
			break
		}
		wd, isNew, addErr := s.add(path, before)
		fresh = fresh || isNew
		err = cmpErr(err, addErr)
		if wd >= 0 {
			s.byPath[path] = wd
			s.paths[wd] = append(s.paths[wd], path)
		}
	}
	for _, wd := range before {
		if s.paths[wd] == nil {
			_, _ = unix.InotifyRmWatch(s.fd, uint32(wd)) // it may have gone by itself
		}
	}
	return fresh, err
}

// cmpErr keeps the first error.
func cmpErr(first, next error) error {
	if first != nil {
		return first
	}
	return next
}

// add watches one path. Asking again for what is watched gives the same watch.
func (s *system) add(path string, before map[string]int32) (wd int32, isNew bool, err error) {
	got, err := unix.InotifyAddWatch(s.fd, path, mask)
	if errors.Is(err, fs.ErrNotExist) {
		_, known := before[path]
		return -1, known, nil
	}
	if err != nil {
		return -1, false, fmt.Errorf("watch %s: %w", path, err)
	}
	wd = int32(got)
	old, known := before[path]
	var kind unix.Statfs_t
	if err := unix.Statfs(path, &kind); err != nil || !slices.Contains(local[:], uint32(kind.Type)) {
		return wd, !known || old != wd, fmt.Errorf("watch %s: on its file system (type %#x) others may write unnoticed", path, kind.Type)
	}
	return wd, !known || old != wd, nil
}

func (s *system) wait(ctx context.Context, d time.Duration) []Event {
	queue := s.queue // the end of ctx may come late, after close
	_ = queue.SetReadDeadline(time.Now().Add(d))
	stop := context.AfterFunc(ctx, func() { _ = queue.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	n, err := queue.Read(s.buf)
	if err != nil {
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			s.close() // the next Watch opens another
			return []Event{{Op: Lost}}
		}
		return nil
	}
	return s.events(s.buf[:n], nil)
}

func (s *system) pending() []Event {
	var events []Event
	for {
		n, err := unix.Read(s.fd, s.buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n <= 0 {
			return events // EAGAIN: the queue is empty
		}
		events = s.events(s.buf[:n], events)
	}
}

// events reads what the kernel wrote: struct inotify_event, again and again.
func (s *system) events(text []byte, events []Event) []Event {
	for len(text) >= unix.SizeofInotifyEvent {
		wd := int32(binary.NativeEndian.Uint32(text))
		bits := binary.NativeEndian.Uint32(text[4:])
		end := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(text[12:]))
		if end > len(text) {
			break
		}
		name := strings.TrimRight(string(text[unix.SizeofInotifyEvent:end]), "\x00")
		text = text[end:]
		events = s.event(events, wd, bits, name)
	}
	return events
}

func (s *system) event(events []Event, wd int32, bits uint32, name string) []Event {
	if bits&unix.IN_Q_OVERFLOW != 0 {
		return append(events, Event{Op: Lost})
	}
	paths := s.paths[wd]
	if paths == nil {
		return events // of a watch that was given up
	}
	if bits&(unix.IN_IGNORED|unix.IN_DELETE_SELF|unix.IN_MOVE_SELF|unix.IN_UNMOUNT) != 0 {
		if bits&unix.IN_IGNORED != 0 {
			delete(s.paths, wd)
			for _, path := range paths {
				delete(s.byPath, path)
			}
		}
		return append(events, Event{Op: Lost})
	}
	for _, path := range paths {
		if name != "" {
			path = filepath.Join(path, name)
		}
		events = append(events, Event{Path: path, Op: op(bits), Folder: bits&unix.IN_ISDIR != 0})
	}
	return events
}

func op(bits uint32) Op {
	switch {
	case bits&unix.IN_CREATE != 0:
		return Created
	case bits&unix.IN_MODIFY != 0:
		return Writing
	case bits&(unix.IN_CLOSE_WRITE|unix.IN_MOVED_TO) != 0:
		return Whole
	case bits&unix.IN_ATTRIB != 0:
		return Touched
	case bits&(unix.IN_DELETE|unix.IN_MOVED_FROM) != 0:
		return Gone
	}
	return Lost
}
