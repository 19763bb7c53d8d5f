// A key's secret, this once: the server keeps a hash of it only.

import { Dialog } from "../ui/Dialog";
import { copy } from "../ui/state";

export function NewSecret({ secret, name, onClose }: { secret: string; name: string; onClose: () => void }) {
  return (
    <Dialog title={`The key ${name}`} onClose={onClose}>
      <p><strong>Copy it now: it is shown this once.</strong> The server keeps a hash of it and can't show it again.</p>
      <div class="secret">
        <input readOnly aria-label="Secret" class="mono" value={secret} onFocus={(event) => event.currentTarget.select()} />
        <button type="button" class="primary" onClick={() => void copy(secret, "The key is copied")}>Copy</button>
      </div>
      <div class="row"><button type="button" onClick={onClose}>I have it</button></div>
    </Dialog>
  );
}
