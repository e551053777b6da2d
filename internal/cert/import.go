package cert

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"gatehouse/internal/store"
)

// Import takes over a certificate somebody else obtained, under the names its
// leaf carries, so that no order is needed until it is due. It changes nothing
// if the store holds one that lasts as long or longer, unless it is the same
// with less of its chain; a value there that cannot be served is overwritten. Any process may call it, beside running
// replicas too.
func Import(ctx context.Context, s store.Store, issuerID string, b Bundle) (changed bool, err error) {
	c, err := Check(b, nil)
	if err != nil {
		return false, err
	}
	c.Issuer, c.Obtained = issuerID, c.NotBefore
	value, err := c.encode(b, 0)
	if err != nil {
		return false, fmt.Errorf("encode certificate %s: %w", c.ID, err)
	}
	kk := key{issuerID, c.ID}
	name := kk.under(certificatesPrefix)
	for {
		e, err := s.Get(ctx, name)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return false, fmt.Errorf("read %s: %w", name, err)
		}
		if err == nil {
			there, err := decodeCertificate(kk, e.Value)
			more := err == nil && bytes.Equal(there.raw(), c.raw()) && len(there.TLS.Certificate) < len(c.TLS.Certificate)
			if err == nil && !more && !there.NotAfter.Before(c.NotAfter) {
				return false, nil
			}
		}
		_, err = s.Put(ctx, name, value, e.Revision)
		switch {
		case err == nil:
			return true, nil
		case !errors.Is(err, store.ErrConflict):
			return false, fmt.Errorf("write %s: %w", name, err)
		}
	}
}
