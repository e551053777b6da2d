package copystore

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"gatehouse/internal/store"
)

// A file is one line, then the body, sealed if there is a key:
//
//	gatehouse-copy 1\n
//	sha256 of what follows · when, in Unix seconds · source · prefix · count · (key · revision · value)*
//
// Numbers are varints, texts have their length before them.
const (
	header  = "gatehouse-copy 1\n"
	maxFile = 512 << 20
)

func (s *Store) encode(prefix string, entries []store.Entry, now time.Time) ([]byte, error) {
	size := 256
	for _, e := range entries {
		size += len(e.Key) + len(e.Revision) + len(e.Value) + 16
	}
	if size > maxFile {
		return nil, fmt.Errorf("%d bytes, at most %d are kept", size, maxFile)
	}
	b := make([]byte, sha256.Size, size)
	b = binary.AppendVarint(b, now.Unix())
	b = appendText(b, s.o.Source)
	b = appendText(b, prefix)
	b = binary.AppendUvarint(b, uint64(len(entries)))
	for _, e := range entries {
		b = appendText(b, e.Key)
		b = appendText(b, string(e.Revision))
		b = appendText(b, string(e.Value))
	}
	sum := sha256.Sum256(b[sha256.Size:])
	copy(b, sum[:])
	if !s.o.Ring.Empty() {
		var err error
		if b, err = s.o.Ring.Seal(s.o.Ring.IDs()[0], sealName(prefix), b); err != nil {
			return nil, err
		}
	}
	return append([]byte(header), b...), nil
}

func sealName(prefix string) string { return "copy of " + prefix }

func appendText(b []byte, text string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

var errDamaged = errors.New("it is damaged")

func (s *Store) decode(prefix string, data []byte) ([]store.Entry, time.Time, error) {
	body, ok := bytes.CutPrefix(data, []byte(header))
	if !ok {
		return nil, time.Time{}, errors.New("it is no copy this program can read")
	}
	body, err := s.o.Ring.Open(sealName(prefix), body)
	if err != nil {
		return nil, time.Time{}, err
	}
	if len(body) < sha256.Size || sha256.Sum256(body[sha256.Size:]) != [sha256.Size]byte(body[:sha256.Size]) {
		return nil, time.Time{}, errDamaged
	}
	r := reader{rest: body[sha256.Size:]}
	when := time.Unix(r.number(), 0)
	source, of := r.text(), r.text()
	if r.bad {
		return nil, time.Time{}, errDamaged
	}
	if source != s.o.Source || of != prefix {
		return nil, time.Time{}, fmt.Errorf("it is of another store: %q of %s, not %q of %s", of, source, prefix, s.o.Source)
	}
	count := r.count()
	entries := make([]store.Entry, 0, min(count, uint64(len(r.rest)/3)))
	for range count {
		e := store.Entry{Key: r.text(), Revision: store.Revision(r.text()), Value: r.bytes()}
		if r.bad || !store.Under(e.Key, prefix) {
			return nil, time.Time{}, errDamaged
		}
		entries = append(entries, e)
	}
	return entries, when, nil
}

// reader takes apart what encode made; bad stays once something was amiss.
type reader struct {
	rest []byte
	bad  bool
}

func (r *reader) advance(n int) {
	if n <= 0 || n > len(r.rest) {
		r.bad, r.rest = true, nil
		return
	}
	r.rest = r.rest[n:]
}

func (r *reader) number() int64 {
	v, n := binary.Varint(r.rest)
	r.advance(n)
	return v
}

func (r *reader) count() uint64 {
	v, n := binary.Uvarint(r.rest)
	r.advance(n)
	if r.bad {
		return 0
	}
	return v
}

func (r *reader) bytes() []byte {
	n := r.count()
	if r.bad || n > uint64(len(r.rest)) {
		r.bad = true
		return nil
	}
	value := r.rest[:n:n]
	r.rest = r.rest[n:]
	return value
}

func (r *reader) text() string { return string(r.bytes()) }

func readBounded(f *os.File) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(f, 2*maxFile+1))
	if err == nil && len(data) > 2*maxFile {
		err = fmt.Errorf("over %d bytes", 2*maxFile)
	}
	return data, err
}

// replace puts data where name is, whole or not at all.
func replace(name string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".copy-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone if it was renamed
	_, err = f.Write(data)                     // CreateTemp's mode is 0600
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
