package copystore

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"time"

	"gatehouse/internal/store"
)

// A file is one line, then a record for each entry and one that ends it:
//
//	gatehouse-copy 2\n
//	(length · check · key · revision · value)*
//	0 · length · check · sha256 of all before · when, in Unix seconds · source · prefix · count
//
// Numbers are varints, texts have their length before them. The check is the
// beginning of the SHA-256 of what follows, which is sealed if there is a key.
const (
	header    = "gatehouse-copy 2\n"
	maxFile   = 1 << 30
	checkSize = 8
)

// write writes a file of entries. Where last has them, they are copied as they
// are; value gives the others.
func (s *Store) write(prefix string, entries []store.Entry, last *file, value func(store.Entry) (store.Entry, error)) (*file, error) {
	f, err := os.CreateTemp(s.o.Dir, ".copy-*") // its mode is 0600
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone if it was renamed
	out := &file{f: f, places: make([]place, 0, len(entries))}
	if err = s.fill(prefix, entries, last, value, out); err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(f.Name(), s.file(prefix))
	}
	if err == nil {
		err = syncDir(s.o.Dir)
	}
	if err != nil {
		out.close()
		return nil, err
	}
	return out, nil
}

func (s *Store) fill(prefix string, entries []store.Entry, last *file, value func(store.Entry) (store.Entry, error), out *file) error {
	w := writer{out: bufio.NewWriterSize(out.f, 64<<10), sum: sha256.New()}
	w.write([]byte(header))
	for _, e := range entries {
		record, err := last.record(e)
		if err != nil {
			if e, err = value(e); err == nil {
				record, err = s.seal(sealName(prefix), appendEntry(nil, e))
			}
		}
		if err != nil {
			return err
		}
		out.places = append(out.places, place{e.Key, e.Revision, w.at, len(record)})
		if w.write(record); w.at > maxFile {
			return fmt.Errorf("over %d bytes, which is what is kept at most", maxFile)
		}
	}
	end := w.sum.Sum(nil)
	end = binary.AppendVarint(end, time.Now().Unix())
	end = appendText(end, s.o.Source)
	end = appendText(end, prefix)
	end = binary.AppendUvarint(end, uint64(len(entries)))
	record, err := s.seal(endName(prefix), end)
	if err != nil {
		return err
	}
	w.write([]byte{0})
	w.write(record)
	return w.out.Flush()
}

// writer keeps count of what is written; the error is that of Flush.
type writer struct {
	out *bufio.Writer
	sum hash.Hash
	at  int64
}

func (w *writer) write(p []byte) {
	_, _ = w.out.Write(p)
	w.sum.Write(p)
	w.at += int64(len(p))
}

func appendEntry(b []byte, e store.Entry) []byte {
	b = appendText(b, e.Key)
	b = appendText(b, string(e.Revision))
	return append(binary.AppendUvarint(b, uint64(len(e.Value))), e.Value...)
}

// seal makes a record of a body.
func (s *Store) seal(name string, body []byte) ([]byte, error) {
	if !s.o.Ring.Empty() {
		var err error
		if body, err = s.o.Ring.Seal(s.o.Ring.IDs()[0], name, body); err != nil {
			return nil, err
		}
	}
	record := binary.AppendUvarint(make([]byte, 0, len(body)+checkSize+binary.MaxVarintLen32), uint64(len(body)))
	sum := sha256.Sum256(body)
	record = append(record, sum[:checkSize]...)
	return append(record, body...), nil
}

var errMissing = errors.New("it is not in the file")

// record reads one as it is.
func (f *file) record(e store.Entry) ([]byte, error) {
	p, ok := f.find(e)
	if !ok {
		return nil, errMissing
	}
	record := make([]byte, p.size)
	if _, err := f.f.ReadAt(record, p.at); err != nil {
		return nil, err
	}
	n, used := binary.Uvarint(record)
	if used <= 0 || n == 0 || uint64(len(record)) != uint64(used)+checkSize+n {
		return nil, errDamaged
	}
	if sum := sha256.Sum256(record[used+checkSize:]); !bytes.Equal(sum[:checkSize], record[used:used+checkSize]) {
		return nil, errDamaged
	}
	return record, nil
}

// decode reads a file; nothing of one that is not whole is given.
func (s *Store) decode(prefix string, f *os.File) ([]store.Entry, time.Time, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, time.Time{}, err
	}
	if info.Size() > 2*maxFile {
		return nil, time.Time{}, fmt.Errorf("it has %d bytes", info.Size())
	}
	in := source{in: bufio.NewReaderSize(f, 64<<10), rest: info.Size(), sum: sha256.New()}
	if string(in.next(int64(len(header)))) != header {
		return nil, time.Time{}, errors.New("it is no copy this program can read")
	}
	entries := []store.Entry{}
	for {
		sum := in.sum.Sum(nil)
		body, end := in.record()
		name := sealName(prefix)
		if end {
			body, _ = in.record()
			name = endName(prefix)
		}
		if in.err != nil {
			return nil, time.Time{}, errDamaged
		}
		if body, err = s.o.Ring.Open(name, body); err != nil {
			return nil, time.Time{}, err
		}
		r := reader{rest: body}
		if end {
			if in.rest != 0 {
				return nil, time.Time{}, errDamaged
			}
			when, err := s.judge(prefix, &r, sum, len(entries))
			return entries, when, err
		}
		e := store.Entry{Key: r.text(), Revision: store.Revision(r.text()), Value: r.bytes()}
		if r.bad || len(r.rest) > 0 || !store.Under(e.Key, prefix) {
			return nil, time.Time{}, errDamaged
		}
		entries = append(entries, e)
	}
}

// judge reads the record that ends a file.
func (s *Store) judge(prefix string, r *reader, sum []byte, count int) (when time.Time, err error) {
	if len(r.rest) < len(sum) || !bytes.Equal(r.rest[:len(sum)], sum) {
		return time.Time{}, errDamaged
	}
	r.rest = r.rest[len(sum):]
	when = time.Unix(r.number(), 0)
	from, of, n := r.text(), r.text(), r.count()
	switch {
	case r.bad || n != uint64(count):
		return time.Time{}, errDamaged
	case from != s.o.Source || of != prefix:
		return time.Time{}, fmt.Errorf("it is of another store: %q of %s, not %q of %s", of, from, prefix, s.o.Source)
	}
	return when, nil
}

// source reads a file record by record; err stays once something was amiss.
type source struct {
	in   *bufio.Reader
	rest int64 // bytes that are left
	sum  hash.Hash
	err  error
}

// next reads n bytes, which are the caller's.
func (s *source) next(n int64) []byte {
	if s.err == nil && (n < 0 || n > s.rest) {
		s.err = errDamaged
	}
	if s.err != nil {
		return nil
	}
	p := make([]byte, n)
	if _, s.err = io.ReadFull(s.in, p); s.err != nil {
		return nil
	}
	s.rest -= n
	s.sum.Write(p)
	return p
}

// record reads a body; end says that the one that ends the file comes next.
func (s *source) record() (body []byte, end bool) {
	n, err := binary.ReadUvarint(s)
	if s.err == nil {
		s.err = err
	}
	if s.err != nil || n == 0 {
		return nil, s.err == nil
	}
	check := s.next(checkSize)
	body = s.next(int64(min(n, 1<<62)))
	if sum := sha256.Sum256(body); s.err == nil && !bytes.Equal(sum[:checkSize], check) {
		s.err = errDamaged
	}
	return body, false
}

// ReadByte is for binary.ReadUvarint.
func (s *source) ReadByte() (byte, error) {
	p := s.next(1)
	if s.err != nil {
		return 0, s.err
	}
	return p[0], nil
}

func sealName(prefix string) string { return "copy of " + prefix }

func endName(prefix string) string { return "end of the copy of " + prefix }

func appendText(b []byte, text string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

var errDamaged = errors.New("it is damaged")

// reader takes apart a record; bad stays once something was amiss.
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

func syncDir(name string) error {
	dir, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
