"""The renderer's inner loop: every voxel sampled several times in the head, each sample one tissue."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import ndimage

from DiffMaCore.phantom import pathology as q
from DiffMaCore.phantom import splitting as m
from DiffMaCore.phantom import tissues as t

# positions in the array of parameters
(SKIN_MM, SCALP_FAT, FACE_FAT, SHEETS, FAT_SHARE, GROW, VENTRICLES, LEUKO, DURA_MM, FALX_MM, TENT_MM) = range(11)
(CELLS, MUCOSA_MM, BASE, MIDDLE, TEETH_Z, TEETH_Y, STEM_Y, FIBRES, PARAMETERS) = range(11, 20)
TILE = 64  # side of the periodic noise tiles, a power of two
BLOCK = 8  # voxels, side of the blocks that are skipped where they are empty
_MASK = TILE - 1

OUTSIDE, AIR, SOFT, WHITE, CORTEX = (x.label for x in (t.OUTSIDE, t.AIR, t.SOFT, t.WHITE, t.CORTEX))
VENTRICLE, CSF, CB_GREY, DEEP = (x.label for x in (t.VENTRICLE, t.CSF, t.CEREBELLAR_GREY, t.DEEP_GREY))
EYE, BONE, DIPLOE, SKIN, FAT = (x.label for x in (t.EYE, t.BONE, t.DIPLOE, t.SKIN, t.FAT))
MUSCLE, DURA, LENS, SCLERA = (x.label for x in (t.MUSCLE, t.DURA, t.LENS, t.SCLERA))
TOOTH, MUCOSA, CB_WHITE, UNSCANNED = (x.label for x in (t.TOOTH, t.MUCOSA, t.CEREBELLAR_WHITE, t.UNSCANNED))
WHITE_LESION, FIBROUS_FAT, FATTY_MUSCLE = (x.label for x in (t.WHITE_LESION, t.FIBROUS_FAT, t.FATTY_MUSCLE))
DEPTH, TO_BONE, TO_BRAIN, TO_GREY, TO_WHITE, TO_VENTRICLE = range(6)
FALX, TENTORIUM, MEMBRANE, ORBIT, MASTOID = m.FALX, m.TENTORIUM, m.MEMBRANE, m.ORBIT, m.MASTOID
_REPLACES = q.replaceable()
_D = m.SCALES["depth"]
_B = m.SCALES["bone"]
_S = m.SIGNED


@njit(nogil=True, cache=True, fastmath=True, inline="always")
def _tile(tile, z, y, x):
    """Periodic noise at a node position, trilinear."""
    fz, fy, fx = np.floor(z), np.floor(y), np.floor(x)
    wz, wy, wx = np.float32(z - fz), np.float32(y - fy), np.float32(x - fx)
    z0, y0, x0 = int(fz) & _MASK, int(fy) & _MASK, int(fx) & _MASK
    z1, y1, x1 = (z0 + 1) & _MASK, (y0 + 1) & _MASK, (x0 + 1) & _MASK
    a = tile[z0, y0, x0] + wx * (tile[z0, y0, x1] - tile[z0, y0, x0])
    b = tile[z0, y1, x0] + wx * (tile[z0, y1, x1] - tile[z0, y1, x0])
    c = tile[z1, y0, x0] + wx * (tile[z1, y0, x1] - tile[z1, y0, x0])
    d = tile[z1, y1, x0] + wx * (tile[z1, y1, x1] - tile[z1, y1, x0])
    a += wy * (b - a)
    c += wy * (d - c)
    return a + wz * (c - a)


@njit(nogil=True, cache=True, fastmath=True, inline="always")
def _map(maps, k, z0, y0, x0, wz, wy, wx):
    """One of the head's maps, trilinear."""
    value = np.float32(0.0)
    for dz in range(2):
        az = wz if dz else np.float32(1.0) - wz
        for dy in range(2):
            ay = az * (wy if dy else np.float32(1.0) - wy)
            row = maps[z0 + dz, y0 + dy]
            value += ay * ((np.float32(1.0) - wx) * row[x0, k] + wx * row[x0 + 1, k])
    return value


@njit(nogil=True, cache=True, fastmath=True)
def _vote(labels, names, shares, z0, y0, x0, wz, wy, wx):
    """The label with the largest trilinear weight among the eight around: borders without steps."""
    n = 0
    for k in range(8):
        dz, dy, dx = k >> 2, (k >> 1) & 1, k & 1
        w = (wz if dz else 1 - wz) * (wy if dy else 1 - wy) * (wx if dx else 1 - wx)
        label = labels[z0 + dz, y0 + dy, x0 + dx]
        for j in range(n):
            if names[j] == label:
                shares[j] += w
                break
        else:
            names[n] = label
            shares[n] = w
            n += 1
    best = 0
    for j in range(1, n):
        if shares[j] > shares[best]:
            best = j
    return names[best]


@njit(nogil=True, cache=True, fastmath=True)
def _soft(maps, p, a, b, z, y, x, z0, y0, x0, wz, wy, wx):
    """Skin, fat or muscle; the same left and right but for the deformation."""
    depth = (_map(maps, DEPTH, z0, y0, x0, wz, wy, wx) - _D[1]) / _D[0]
    x = abs(x - p[MIDDLE])
    slow = _tile(a, z / 14, y / 14, x / 14)
    if depth < p[SKIN_MM] * (1 + 0.15 * slow):
        return SKIN
    if _map(maps, ORBIT, z0, y0, x0, wz, wy, wx) > 110:
        return FAT
    bone = (_map(maps, TO_BONE, z0, y0, x0, wz, wy, wx) - _B[1]) / _B[0]
    low = min(max((p[BASE] + 15 - z) / 40, 0.0), 1.0)  # 0 on the calvaria, 1 at face and neck
    fat = (p[SCALP_FAT] + low * (p[FACE_FAT] - p[SCALP_FAT])) * (1 + 0.25 * _tile(b, z / 20, y / 20, x / 20))
    under = depth - p[SKIN_MM]
    fibres = _tile(a, z / 5 + 7, y / 2.6, x / 2.6)
    if under < fat and bone > 0.9 - 0.5 * low:
        return FIBROUS_FAT if fibres + 0.6 * slow > p[FIBRES] - 0.9 * low else FAT
    if bone < 0.8:
        return MUSCLE  # periosteum, galea, origin of a muscle
    sheet = p[SHEETS] * (0.5 + 0.5 * low + 0.7 * _tile(b, z / 9, y / 9 + 30, x / 9))
    between = min(abs(_tile(a, z / 16, y / 6 + 9, x / 6)), abs(_tile(b, z / 22, y / 8, x / 8 + 5)))
    if between < 1.7 * sheet:
        return FAT if between < 0.8 * sheet else FIBROUS_FAT
    fatty = low * (_tile(b, z / 13 + 20, y / 7, x / 7) + 0.4 * fibres + 0.5 + p[FAT_SHARE])
    if fatty > 1.4:
        return FAT if fatty > 2.0 else FIBROUS_FAT
    return FATTY_MUSCLE if fatty > 1.0 else MUSCLE


@njit(nogil=True, cache=True, fastmath=True)
def _csf(maps, p, z0, y0, x0, wz, wy, wx):
    """CSF, or dura, falx, tentorium, or the cortex that grows into it."""
    above = (_map(maps, TENTORIUM, z0, y0, x0, wz, wy, wx) - _S[1]) / _S[0]
    zone = maps[z0 + int(wz + 0.5), y0 + int(wy + 0.5), x0 + int(wx + 0.5), MEMBRANE]
    if zone == 255:
        if abs((_map(maps, FALX, z0, y0, x0, wz, wy, wx) - _S[1]) / _S[0]) < p[FALX_MM]:
            return DURA
    elif zone == 128 and abs(above) < p[TENT_MM]:
        return DURA
    if (_map(maps, TO_BONE, z0, y0, x0, wz, wy, wx) - _B[1]) / _B[0] < p[DURA_MM]:
        return DURA
    if p[GROW] > 0 and (_map(maps, TO_GREY, z0, y0, x0, wz, wy, wx) - _S[1]) / _S[0] < p[GROW]:
        return CORTEX if above < 0 else CB_GREY
    return CSF


@njit(nogil=True, cache=True, fastmath=True)
def _bone(maps, p, a, label, z, y, x, z0, y0, x0, wz, wy, wx):
    """Bone, mastoid cells or teeth."""
    if maps[z0, y0, x0, MASTOID] > 0:
        share = _map(maps, MASTOID, z0, y0, x0, wz, wy, wx) / 255
        inside = (_B[1] - _map(maps, TO_BONE, z0, y0, x0, wz, wy, wx)) / _B[0]
        if share > 0.25 and inside > 1.3:
            return AIR if _tile(a, z / 1.9, y / 1.9, x / 1.9) > p[CELLS] else BONE
    if abs(z - p[TEETH_Z]) < 10 and abs(x - p[MIDDLE]) < 34 and -16 < y - p[TEETH_Y] < 40:
        if _tile(a, z / 6, y / 2.6, x / 2.6) > -0.35:
            return TOOTH
    return label


@njit(nogil=True, cache=True, fastmath=True)
def _eye(eyes, label, z, y, x):
    """Vitreous, lens or sclera."""
    for k in range(eyes.shape[0]):
        dz, dy, dx = z - eyes[k, 0], y - eyes[k, 1], x - eyes[k, 2]
        r = eyes[k, 3]
        distance = dz * dz + dy * dy + dx * dx
        if distance < 4 * r * r:
            if (dz / 4.6) ** 2 + ((dy + 0.68 * r) / 2.1) ** 2 + (dx / 4.6) ** 2 < 1:
                return LENS
            if distance > (r - 0.9) ** 2:
                return SCLERA
    return label


@njit(nogil=True, cache=True, fastmath=True)
def _objects(objects, active, maps, a, label, z, y, x, z0, y0, x0, wz, wy, wx):
    """What a lesion, a calcification or metal makes of a tissue."""
    for k in active:
        if k < 0:
            break
        o = objects[k]
        dz = (z - o[0]) / o[3]
        dy = (y - o[1]) / o[4]
        dx = (x - o[2]) / o[5]
        level = dz * dz + dy * dy + dx * dx
        if level > 2.6:
            continue
        small = min(o[3], min(o[4], o[5]))
        node = 0.45 * small + 0.8
        level = np.sqrt(level) + o[8] * 0.35 * _tile(a, z / node, y / node + 11 * k, x / node)
        what = int(o[7])
        if what == q.BONE_RING:
            if abs(level - 1) < o[9] and (label == BONE or label == DIPLOE):
                label = int(o[6])
            continue
        if level > 1:
            continue
        if what == q.UNDER_BONE:
            ok = label == CSF or label == CORTEX or label == WHITE or label == DURA
            if ok and (_map(maps, TO_BONE, z0, y0, x0, wz, wy, wx) - _B[1]) / _B[0] < o[9] * (1 - level * level):
                label = int(o[6])
        elif _REPLACES[what, label]:
            label = int(o[6])
    return label


@njit(nogil=True, cache=True, fastmath=True)
def _tissue(labels, maps, p, a, b, eyes, objects, active, names, shares, z, y, x):
    """The tissue at a position of the head (voxels of 1 mm)."""
    if z < 0:
        return UNSCANNED
    if not (z < labels.shape[0] - 1 and 0 <= y < labels.shape[1] - 1 and 0 <= x < labels.shape[2] - 1):
        return OUTSIDE
    z0, y0, x0 = int(z), int(y), int(x)
    label = labels[z0, y0, x0]
    wz, wy, wx = np.float32(z - z0), np.float32(y - y0), np.float32(x - x0)
    upper, lower = labels[z0 + 1], labels[z0]
    if not (
        lower[y0, x0 + 1] == label
        and lower[y0 + 1, x0] == label
        and lower[y0 + 1, x0 + 1] == label
        and upper[y0, x0] == label
        and upper[y0, x0 + 1] == label
        and upper[y0 + 1, x0] == label
        and upper[y0 + 1, x0 + 1] == label
    ):
        label = _vote(labels, names, shares, z0, y0, x0, wz, wy, wx)
    if label == OUTSIDE:
        return OUTSIDE
    if label == AIR:
        if p[MUCOSA_MM] > 0 and z > p[TEETH_Z] + 12 and y < p[STEM_Y] - 25:
            thick = p[MUCOSA_MM] * (0.3 + _tile(b, z / 7, y / 7, x / 7))
            if (_map(maps, TO_BONE, z0, y0, x0, wz, wy, wx) - _B[1]) / _B[0] < thick:
                return MUCOSA
        return AIR
    if label == SOFT:
        label = _soft(maps, p, a, b, z, y, x, z0, y0, x0, wz, wy, wx)
    elif label == CSF:
        label = _csf(maps, p, z0, y0, x0, wz, wy, wx)
    elif label == BONE or label == DIPLOE:
        label = _bone(maps, p, a, label, z, y, x, z0, y0, x0, wz, wy, wx)
    elif label == EYE:
        return _eye(eyes, label, z, y, x)
    if label == CORTEX or label == CB_GREY:
        if p[GROW] < 0:
            if (_map(maps, TO_BRAIN, z0, y0, x0, wz, wy, wx) - _S[1]) / _S[0] > p[GROW]:
                label = CSF
        elif (_map(maps, TO_WHITE, z0, y0, x0, wz, wy, wx) - _S[1]) / _S[0] < 0.6 * p[GROW]:
            label = WHITE if label == CORTEX else CB_WHITE
    elif label == WHITE or label == DEEP:
        edge = max(p[VENTRICLES], p[LEUKO])
        if edge > 0:
            far = (_map(maps, TO_VENTRICLE, z0, y0, x0, wz, wy, wx) - _S[1]) / _S[0]
            if far < p[VENTRICLES]:
                label = VENTRICLE
            elif label == WHITE and far - p[VENTRICLES] < p[LEUKO] * (0.6 + 0.7 * _tile(a, z / 5, y / 5, x / 5)):
                label = WHITE_LESION
    if active[0] < 0:
        return label
    return _objects(objects, active, maps, a, label, z, y, x, z0, y0, x0, wz, wy, wx)


@njit(nogil=True, cache=True, fastmath=True, inline="always")
def _empty(near, z, y, x):
    """Whether nothing of the head is near."""
    bz, by, bx = int(z) // BLOCK, int(y) // BLOCK, int(x) // BLOCK
    if z < 0 or y < 0 or x < 0 or bz >= near.shape[0] or by >= near.shape[1] or bx >= near.shape[2]:
        return True
    return not near[bz, by, bx]


@njit(nogil=True, cache=True, fastmath=True)
def _activate(objects, active, z, y, x, reach):
    """Note which objects may reach a voxel: their indices, then -1."""
    n = 0
    for k in range(objects.shape[0]):
        o = objects[k]
        if (
            abs(z - o[0]) < 1.62 * o[3] + reach
            and abs(y - o[1]) < 1.62 * o[4] + reach
            and abs(x - o[2]) < 1.62 * o[5] + reach
        ):
            active[n] = k
            n += 1
    active[n] = -1


def occupied(labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Blocks of BLOCK voxels a side that hold a part of the head or have a neighbour that does."""
    padded = np.pad(labels > 0, [(0, -n % BLOCK) for n in labels.shape])
    nz, ny, nx = (n // BLOCK for n in padded.shape)
    filled = padded.reshape(nz, BLOCK, ny, BLOCK, nx, BLOCK).any((1, 3, 5))
    return ndimage.binary_dilation(filled, np.ones((3, 3, 3)))


@njit(nogil=True, cache=True, fastmath=True)
def sample(labels, maps, near, p, a, b, eyes, objects, matrix, offset, field, node_mm, spacing, samples, hu, texture, signal, grain, out):
    """Render a grid.

    ``spacing`` (z, y, x) mm, ``samples`` a voxel and axis; ``hu``, ``texture`` (tissues,) HU; ``signal`` (contrasts,
    tissues), ``grain`` (tissues,) relative. ``out``: fine CT (z * samples[0], y, x), MR (contrasts, z, y, x), tissue
    that fills most of a voxel uint8 and share of it inside the head, both (z, y, x).
    """
    fine, mr, most, inside = out
    nz, ny, nx = most.shape
    kz, ky, kx = samples
    contrasts = signal.shape[0]
    reach = 2.0 * max(spacing[0], spacing[1], spacing[2]) + 2.0
    per_slab, per_voxel = 1.0 / (ky * kx), 1.0 / (kz * ky * kx)
    counts = np.zeros(hu.shape[0], np.int32)
    sums = np.zeros(contrasts, np.float32)
    moved = np.empty(3)
    names, shares = np.empty(8, np.uint8), np.empty(8, np.float32)
    active = np.full(objects.shape[0] + 1, -1, np.int64)
    middle = np.array([(n - 1) / 2 for n in field.shape[1:]])
    for iz in range(nz):
        for iy in range(ny):
            for ix in range(nx):
                counts[:] = 0
                sums[:] = 0
                full = 0
                empty = False
                py, px = (iy - (ny - 1) / 2) * spacing[1], (ix - (nx - 1) / 2) * spacing[2]
                for sz in range(kz):
                    pz = (iz - (nz - 1) / 2 + (sz + 0.5) / kz - 0.5) * spacing[0]
                    gz, gy, gx = pz / node_mm + middle[0], py / node_mm + middle[1], px / node_mm + middle[2]
                    bz, by, bx = int(gz), int(gy), int(gx)
                    wz, wy, wx = gz - bz, gy - by, gx - bx
                    for k in range(3):
                        f = field[k]
                        low = (f[bz, by, bx] * (1 - wx) + f[bz, by, bx + 1] * wx) * (1 - wy) + (
                            f[bz, by + 1, bx] * (1 - wx) + f[bz, by + 1, bx + 1] * wx
                        ) * wy
                        high = (f[bz + 1, by, bx] * (1 - wx) + f[bz + 1, by, bx + 1] * wx) * (1 - wy) + (
                            f[bz + 1, by + 1, bx] * (1 - wx) + f[bz + 1, by + 1, bx + 1] * wx
                        ) * wy
                        moved[k] = offset[k] + low * (1 - wz) + high * wz
                    if sz == 0:
                        z = moved[0] + matrix[0, 0] * pz + matrix[0, 1] * py + matrix[0, 2] * px
                        y = moved[1] + matrix[1, 0] * pz + matrix[1, 1] * py + matrix[1, 2] * px
                        x = moved[2] + matrix[2, 0] * pz + matrix[2, 1] * py + matrix[2, 2] * px
                        if z >= 0 and _empty(near, z, y, x):
                            empty = True
                            break
                        _activate(objects, active, z, y, x, reach)
                    ct = np.float32(0.0)
                    for sy in range(ky):
                        qy = py + ((sy + 0.5) / ky - 0.5) * spacing[1]
                        for sx in range(kx):
                            qx = px + ((sx + 0.5) / kx - 0.5) * spacing[2]
                            z = moved[0] + matrix[0, 0] * pz + matrix[0, 1] * qy + matrix[0, 2] * qx
                            y = moved[1] + matrix[1, 0] * pz + matrix[1, 1] * qy + matrix[1, 2] * qx
                            x = moved[2] + matrix[2, 0] * pz + matrix[2, 1] * qy + matrix[2, 2] * qx
                            tissue = _tissue(
                                labels, maps, p, a, b, eyes, objects, active, names, shares, z, y, x
                            )
                            counts[tissue] += 1
                            ct += hu[tissue]
                            if tissue == OUTSIDE or tissue == UNSCANNED:
                                continue
                            full += 1
                            if texture[tissue] > 0 or grain[tissue] > 0:
                                noise = _tile(b, z / 2.2, y / 2.2, x / 2.2)
                                ct += texture[tissue] * noise
                                for c in range(contrasts):
                                    sums[c] += signal[c, tissue] * (1 - grain[tissue] * noise)
                            else:
                                for c in range(contrasts):
                                    sums[c] += signal[c, tissue]
                    fine[iz * kz + sz, iy, ix] = ct * per_slab
                if empty:
                    for sz in range(kz):
                        fine[iz * kz + sz, iy, ix] = hu[OUTSIDE]
                    most[iz, iy, ix] = OUTSIDE
                    inside[iz, iy, ix] = 0
                    for c in range(contrasts):
                        mr[c, iz, iy, ix] = 0
                    continue
                best = 0
                for k in range(1, counts.shape[0]):
                    if counts[k] > counts[best]:
                        best = k
                most[iz, iy, ix] = best
                inside[iz, iy, ix] = full * per_voxel
                for c in range(contrasts):
                    mr[c, iz, iy, ix] = sums[c] * per_voxel


def noise_tiles(rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The two periodic noise tiles that ``sample`` reads."""
    from DiffMaCore.phantom.warp import smooth_noise

    return smooth_noise(rng, (TILE,) * 3, 1.1), smooth_noise(rng, (TILE,) * 3, 1.1)
