// A component that is drawn again only when its properties change: in a chat of 500 messages a
// change of one must not cost the others anything.

import { Component, type FunctionComponent } from "preact";

export function memo<Properties extends object>(Inner: FunctionComponent<Properties>): FunctionComponent<Properties> {
  class Memo extends Component<Properties> {
    override shouldComponentUpdate(next: Properties): boolean {
      const keys = Object.keys(next) as (keyof Properties)[];
      return keys.some((key) => next[key] !== (this.props as Properties)[key]);
    }

    override render() {
      return <Inner {...(this.props as Properties)} />;
    }
  }
  return Memo as unknown as FunctionComponent<Properties>;
}
