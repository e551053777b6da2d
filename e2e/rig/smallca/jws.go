package smallca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
)

// call is an opened JWS (RFC 8555, section 6.2).
type call struct {
	account *account // nil: of newAccount
	key     *ecdsa.PublicKey
	thumb   string
	payload []byte
}

type header struct {
	Alg, Nonce, URL, Kid string
	JWK                  *struct{ Kty, Crv, X, Y string }
}

func (ca *CA) verify(step string, req *http.Request, body []byte) (*call, *problem) {
	var jws struct{ Protected, Payload, Signature string }
	var h header
	if req.Method != http.MethodPost || json.Unmarshal(body, &jws) != nil {
		return nil, refusal(http.StatusBadRequest, "malformed", "no JWS")
	}
	raw, err := fromBase64(jws.Protected)
	if err != nil || json.Unmarshal(raw, &h) != nil {
		return nil, refusal(http.StatusBadRequest, "malformed", "no protected header")
	}
	if !ca.nonces[h.Nonce] {
		ca.Log.BadNonces++
		return nil, refusal(http.StatusBadRequest, "badNonce", "nonce %q", h.Nonce)
	}
	delete(ca.nonces, h.Nonce)
	if h.URL != ca.o.URL+req.URL.Path {
		return nil, refusal(http.StatusUnauthorized, "unauthorized", "signed for %q", h.URL)
	}
	c := &call{}
	switch {
	case h.JWK != nil && step == "newAccount":
		if c.key, c.thumb, err = publicKey(h.JWK.X, h.JWK.Y); err != nil {
			return nil, refusal(http.StatusBadRequest, "badPublicKey", "%v", err)
		}
	case ca.accounts[h.Kid] != nil:
		c.account = ca.accounts[h.Kid]
		c.key, c.thumb = c.account.key, c.account.thumb
	default:
		return nil, refusal(http.StatusBadRequest, "accountDoesNotExist", "no account %q", h.Kid)
	}
	signature, err := fromBase64(jws.Signature)
	if err != nil || len(signature) != 64 {
		return nil, refusal(http.StatusBadRequest, "malformed", "signature")
	}
	sum := sha256.Sum256([]byte(jws.Protected + "." + jws.Payload))
	if !ecdsa.Verify(c.key, sum[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])) {
		return nil, refusal(http.StatusUnauthorized, "unauthorized", "the signature is wrong")
	}
	if c.payload, err = fromBase64(jws.Payload); err != nil {
		return nil, refusal(http.StatusBadRequest, "malformed", "payload")
	}
	return c, nil
}

func publicKey(x, y string) (*ecdsa.PublicKey, string, error) {
	bx, err1 := fromBase64(x)
	by, err2 := fromBase64(y)
	if err1 != nil || err2 != nil || len(bx) != 32 || len(by) != 32 {
		return nil, "", fmt.Errorf("no P-256 key")
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append(append([]byte{4}, bx...), by...))
	if err != nil {
		return nil, "", err
	}
	sum := sha256.Sum256(fmt.Appendf(nil, `{"crv":"P-256","kty":"EC","x":"%s","y":"%s"}`, x, y))
	return key, base64.RawURLEncoding.EncodeToString(sum[:]), nil
}
