"""Functions of torch by what LRP has to do about them, by the names that :func:`calls.name_of` gives."""


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Linear in the tensors that are explained, without constants of their own; or piecewise so (a maximum over elements,
#: a norm), where Euler's theorem keeps the sum: the ordinary gradient conserves.
SAME = _names("""
    get view reshape view_as reshape_as flatten unflatten ravel permute transpose t swapaxes swapdims movedim
    moveaxis adjoint squeeze unsqueeze expand expand_as broadcast_to broadcast_tensors repeat repeat_interleave
    tile contiguous clone to float double half bfloat16 type type_as cpu cuda chunk split tensor_split
    split_with_sizes unbind narrow select index_select gather take take_along_dim getitem masked_select roll
    flip fliplr flipud rot90 unfold diagonal diag diag_embed tril triu as_strided sum mean cumsum neg negative
    positive trace zero real requires_grad alpha_dropout dropout dropout1d dropout2d dropout3d feature_dropout
    nan_to_num amax amin max min topk sort msort median kthvalue cummax cummin aminmax maximum minimum fmax fmin
    max_pool1d max_pool2d max_pool3d max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices
    adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d boolean_dispatch avg_pool1d avg_pool2d
    avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d interpolate upsample pixel_shuffle
    pixel_unshuffle channel_shuffle fold norm vector_norm linalg_vector_norm std retain_grad register_hook
    backward
""")
#: Linear in the tensors that are explained, plus constants.
AFFINE = _names("""
    add sub rsub cat concat concatenate stack hstack vstack dstack column_stack where masked_fill masked_scatter
    scatter scatter_add index_add index_copy index_fill index_put setitem copy fill pad lerp select_scatter
    slice_scatter
""")
JOINS = _names("cat concat concatenate stack hstack vstack dstack column_stack")
#: Functions of each element.
ELEMENTWISE = _names("""
    relu relu6 gelu silu mish tanh elu selu celu leaky_relu prelu rrelu hardswish hardtanh softsign tanhshrink
    softshrink hardshrink threshold clamp clamp_min clamp_max clip abs absolute erf square sqrt sin atan arctan
    asinh arcsinh sinh expm1 log1p softplus logsigmoid
""")
GATES = _names("sigmoid hardsigmoid expit")
#: Functions of Python whose body is met function by function.
COMPOSED = _names("multi_head_attention_forward normalize")
#: What keeps being a gate, if all that it takes are gates.
KEEP_GATES = SAME | AFFINE | {"mul", "div"}
#: What is met in its forms that write into their first argument, too.
IN_PLACE = SAME | AFFINE | ELEMENTWISE | GATES | {"mul", "div", "pow"}
