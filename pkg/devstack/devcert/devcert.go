// Package devcert makes certificates for tests: an authority of their own, one for a
// server on 127.0.0.1, and one for a client. Each is good for an hour.
package devcert

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Files are the paths of PEM files.
type Files struct {
	CA                    string // of the authority
	ServerCert, ServerKey string
	ClientCert, ClientKey string
}

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// Make writes the files into a folder.
func Make(dir string) (Files, error) {
	at := func(name string) string { return filepath.Join(dir, name) }
	f := Files{
		CA: at("ca.pem"), ServerCert: at("server.pem"), ServerKey: at("server.key"),
		ClientCert: at("client.pem"), ClientKey: at("client.key"),
	}
	var a authority
	var err error
	if a.cert, a.key, err = a.issue("authority", f.CA, at("ca.key")); err != nil {
		return Files{}, fmt.Errorf("making the authority: %w", err)
	}
	if _, _, err := a.issue("server", f.ServerCert, f.ServerKey); err != nil {
		return Files{}, fmt.Errorf("making the server's certificate: %w", err)
	}
	if _, _, err := a.issue("client", f.ClientCert, f.ClientKey); err != nil {
		return Files{}, fmt.Errorf("making the client's certificate: %w", err)
	}
	return f, nil
}

// issue writes a certificate and its key. The authority's own, the first, it signs
// itself.
func (a *authority) issue(name, certFile, keyFile string) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	now := time.Now()
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-time.Minute), NotAfter: now.Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		cert.IsCA, cert.KeyUsage = true, x509.KeyUsageCertSign
		parent, signer = cert, key
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, parent, &key.PublicKey, signer)
	if err != nil {
		return nil, nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	for path, block := range map[string]*pem.Block{
		certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: keyDER},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			return nil, nil, err
		}
	}
	return cert, key, nil
}
