/**
 * moto's server, with one thing mended: moto 5.1 ignores `MessageType` of KMS' Sign and hashes what is a digest already. AWS
 * documents that a DIGEST is signed as it is, and so does this.
 */
const SERVER = `
import sys, threading
from cryptography.hazmat.primitives.asymmetric import ec, utils
from moto.kms import responses
from moto.kms.utils import ECDSAPrivateKey
from moto.server import main

asked = threading.local()
answer, hash_of, hashed = responses.KmsResponse.sign, ECDSAPrivateKey._ECDSAPrivateKey__hash_algorithm, ECDSAPrivateKey.sign

def sign_request(self):
    asked.digest = self._get_param("MessageType") == "DIGEST"
    return answer(self)

def sign(self, message, signing_algorithm):
    if not asked.digest:
        return hashed(self, message, signing_algorithm)
    return self.private_key.sign(message, ec.ECDSA(utils.Prehashed(hash_of(self, signing_algorithm))))

responses.KmsResponse.sign = sign_request
ECDSAPrivateKey.sign = sign
sys.exit(main())
`;

/** One argument to `python3 -c`, on one line: the lab machine takes a program's arguments as lines. */
export const MOTO_SERVER = `exec(${JSON.stringify(SERVER)})`;
